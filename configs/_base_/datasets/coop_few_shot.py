# One set of CoOp's protocol at 224 px: trained on shots of the base classes, validated on the test
# images of these, tested on the test images of the new ones. Another set by its name alone:
#   --cfg-options train_dataloader.dataset.name=dtd val_dataloader.dataset.name=dtd
#   test_dataloader.dataset.name=dtd
# Folders and split files: docs/lathadapter.md.
dataset_type = 'hyper_mm.CoOpFewShotDataset'
data_root = '{{$HYPER_MM_DATA:data}}'
name = 'caltech101'
data_preprocessor = dict(
    type='ClsDataPreprocessor',
    mean=[122.7709383, 116.7460125, 104.09373615],
    std=[68.5005327, 66.6321579, 70.3231630],
    to_rgb=True,
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomResizedCrop',
        scale=224,
        crop_ratio_range=(0.08, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=224, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    drop_last=True,
    dataset=dict(
        type=dataset_type,
        name=name,
        data_root=data_root,
        split='train',
        shots=16,
        seed=1,
        subsample='base',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=4,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        name=name,
        data_root=data_root,
        split='test',
        subsample='base',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
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
        subsample='new',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type='Accuracy', topk=1)
test_evaluator = val_evaluator
