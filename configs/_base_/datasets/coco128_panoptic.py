# 100 images of COCO panoptic, long side 320: 80 to train on, 20 to test; 11 classes are never labeled
# in training
_base_ = './coco_panoptic.py'
data_root = '{{$HYPER_MM_DATA:data}}/coco128_panoptic/'
unseen = [
    'airplane', 'bus', 'dog', 'umbrella', 'knife', 'cup', 'sandwich', 'cake', 'road',
    'grass-merged', 'food-other-merged',
]  # fmt: skip
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='hyper_mm.LoadPanopticSegments'),
    dict(type='Resize', scale=(320, 320), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(320, 320), keep_ratio=True),
    dict(type='hyper_mm.LoadPanopticSegments'),
    dict(type='PackDetInputs', meta_keys=_base_.meta_keys),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        data_root=data_root,
        indices=80,
        unseen=unseen,
        filter_cfg=dict(_delete_=True, filter_empty_gt=False),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/panoptic_train2017.json',
        data_prefix=dict(img='train2017/', seg='annotations/panoptic_train2017/'),
        indices=list(range(80, 100)),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='hyper_mm.OpenVocabPanopticMetric', unseen_classes=unseen),
    dict(type='hyper_mm.OVIoUMetric', unseen_classes=unseen),
]
test_evaluator = val_evaluator
