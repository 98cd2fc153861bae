# What the open-vocabulary benchmarks share: images at their own size, labels of 8 or 16 bits. Files
# as written by tools/dataset_converters/open_vocab.py; docs/open_vocabulary.md has the commands.
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(2560, 640), keep_ratio=True),
            dict(type='hyper_mm.LoadSegAnnotations16'),
            dict(type='PackSegInputs'),
        ],
    ),
)
test_evaluator = dict(type='hyper_mm.OVIoUMetric')
