# PC-59: 5104 images of Pascal Context with 59 classes, as written by:
#   python tools/dataset_converters/open_vocab.py pc59 ...
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='hyper_mm.PascalContext59Dataset',
        data_root='data/pc59',
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(2560, 640), keep_ratio=True),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    ),
)
test_evaluator = dict(type='hyper_mm.OVIoUMetric')
val_dataloader = test_dataloader
val_evaluator = test_evaluator
