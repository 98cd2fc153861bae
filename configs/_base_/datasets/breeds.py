# One image of each ImageNet-1k class, 96x96, labelled by the 13 superclasses of BREEDS' hierarchy
# at depth 3 with at least 20 images each (mammal, instrument, bird, ...)
dataset_type = 'hyper_mm.BreedsDataset'
data_root = '{{$HYPER_MM_DATA:data}}/imagenet_sample'
data_preprocessor = dict(
    num_classes=13,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=96, crop_ratio_range=(0.5, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 96)),
    dict(type='PackInputs'),
]
hierarchy = dict(hierarchy_root='hierarchy/modified', depth=3, min_images=20, seed=0)
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type, data_root=data_root, split='train', pipeline=train_pipeline, **hierarchy
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type, data_root=data_root, split='val', pipeline=test_pipeline, **hierarchy
    ),
)
test_dataloader = val_dataloader
# superclasses differ in size: the mean recall beside the accuracy
val_evaluator = [
    dict(type='Accuracy', topk=(1, 5)),
    dict(type='SingleLabelMetric', items=('recall',)),
]
test_evaluator = val_evaluator
