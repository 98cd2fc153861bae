# The test images of coco133.py at 512 pixels, as they are
_base_ = './coco133.py'
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(512, 384), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = None
val_dataloader = None
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_evaluator = dict(type='hyper_mm.OVIoUMetric')
