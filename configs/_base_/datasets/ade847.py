# 2000 images of ADE20K 2021 with 847 classes, as written by:
#   python tools/dataset_converters/open_vocab.py ade847 ...
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='hyper_mm.ADE20KFull847Dataset',
        data_root='data/ade847',
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(2560, 640), keep_ratio=True),
            dict(type='hyper_mm.LoadSegAnnotations16'),
            dict(type='PackSegInputs'),
        ],
    ),
)
test_evaluator = dict(type='hyper_mm.OVIoUMetric', ignore_index=65535)
val_dataloader = test_dataloader
val_evaluator = test_evaluator
