# ADE20K panoptic, 150 classes, for tests alone, as mmdet prepares it; stock metrics
_base_ = './coco_panoptic.py'
data_root = 'data/ADEChallengeData2016/'
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2560, 640), keep_ratio=True),
    dict(type='hyper_mm.LoadPanopticSegments'),
    dict(type='PackDetInputs', meta_keys=_base_.meta_keys),
]
train_dataloader = None
val_dataloader = None
test_dataloader = dict(
    dataset=dict(
        type='ADE20KPanopticDataset',
        data_root=data_root,
        ann_file='ade20k_panoptic_val.json',
        data_prefix=dict(img='images/validation/', seg='ade20k_panoptic_val/'),
        pipeline=test_pipeline,
    ),
)
val_evaluator = None
# the stock metric needs panopticapi; type='hyper_mm.OpenVocabPanopticMetric' does not
test_evaluator = [
    dict(
        type='CocoPanopticMetric',
        ann_file=data_root + 'ade20k_panoptic_val.json',
        seg_prefix=data_root + 'ade20k_panoptic_val/',
    ),
    dict(type='hyper_mm.OVIoUMetric'),
]
test_cfg = dict(type='TestLoop')
