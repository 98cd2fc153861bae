# ADE20K panoptic, 150 classes, for tests alone, as mmdet prepares it; stock metrics
data_root = 'data/ADEChallengeData2016/'
meta_keys = (
    'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'seg_map_path',
    'segments_info',
)  # fmt: skip
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2560, 640), keep_ratio=True),
    dict(type='hyper_mm.LoadPanopticSegments'),
    dict(type='PackDetInputs', meta_keys=meta_keys),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ADE20KPanopticDataset',
        data_root=data_root,
        ann_file='ade20k_panoptic_val.json',
        data_prefix=dict(img='images/validation/', seg='ade20k_panoptic_val/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
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
