# Omniglot, five alphabets as classes, in the folders that its converter writes:
#   python tools/dataset_converters/omniglot.py images_background_small1.zip data/omniglot
_base_ = 'few_shot_64.py'
data_root = '{{$HYPER_MM_DATA:data}}/omniglot/train'
# characters are not mirrored, and must not be cut much
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomResizedCrop',
        scale=64,
        crop_ratio_range=(0.8, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
test_dataloader = dict(dataset=dict(data_root=data_root))
