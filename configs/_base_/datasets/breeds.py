# One image of each ImageNet-1k class, 96x96, labeled by the 13 superclasses of BREEDS' hierarchy
# at depth 3 with at least 20 images each (mammal, instrument, bird, ...)
_base_ = './folders_64.py'
data_root = '{{$HYPER_MM_DATA:data}}/imagenet_sample'
data_preprocessor = dict(num_classes=13)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=96, crop_ratio_range=(0.5, 1.0)),
    *_base_.train_pipeline[2:],
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 96)),
    dict(type='PackInputs'),
]
dataset = dict(
    _delete_=True,
    type='hyper_mm.BreedsDataset',
    data_root=data_root,
    hierarchy_root='hierarchy/modified',
    depth=3,
    min_images=20,
    seed=0,
)
train_dataloader = dict(
    batch_size=16, dataset=dict(dataset, split='train', pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(dataset, split='val', pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='Accuracy', topk=(1, 5)),
    dict(type='SingleLabelMetric', items=('recall',)),
]
test_evaluator = val_evaluator
