# PAS-20b: the same with background, which is what is none of the 20 classes, as written by:
#   python tools/dataset_converters/open_vocab.py voc20b ...
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='hyper_mm.PascalVOC20bDataset',
        data_root='data/voc20b',
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(2560, 640), keep_ratio=True),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    ),
)
test_evaluator = dict(type='hyper_mm.OVIoUMetric', collapse=20)
val_dataloader = test_dataloader
val_evaluator = test_evaluator
