# One set of CoOp's protocol at 224 px, tested on all its classes: base and new ones, each among
# their own half, and the harmonic mean. Another set by its name, see hyper_mm.CoOpFewShotDataset:
#   HYPER_MM_SET=dtd python tools/test.py CONFIG CHECKPOINT
# Folders and split files: docs/lathadapter.md.
dataset_type = 'hyper_mm.CoOpFewShotDataset'
data_root = '{{$HYPER_MM_DATA:data}}'
name = '{{$HYPER_MM_SET:caltech101}}'
# classes of the sets, for the number of LatHAdapter's attributes; of folders: --cfg-options
# model.head.num_classes=...
num_classes = dict(
    imagenet=1000,
    caltech101=100,
    oxford_pets=37,
    stanford_cars=196,
    oxford_flowers=102,
    food101=101,
    fgvc_aircraft=100,
    sun397=397,
    dtd=47,
    eurosat=10,
    ucf101=101,
    imagenetv2=1000,
    imagenet_sketch=1000,
    imagenet_a=200,
    imagenet_r=200,
).get(name)
num_base_classes = num_classes and (num_classes + 1) // 2
data_preprocessor = dict(
    type='ClsDataPreprocessor',
    mean=[122.7709383, 116.7460125, 104.09373615],
    std=[68.5005327, 66.6321579, 70.3231630],
    to_rgb=True,
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=224, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
test_dataloader = dict(
    batch_size=100,
    num_workers=4,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        name=name,
        data_root=data_root,
        split='test',
        subsample='all',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(type='hyper_mm.BaseNewAccuracy')
