# The test images of camvid.py, enlarged to 640x480
_base_ = './camvid.py'
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(640, 480), keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
train_dataloader = None
val_dataloader = None
test_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
val_evaluator = None
test_evaluator = dict(_delete_=True, type='hyper_mm.OVIoUMetric')
