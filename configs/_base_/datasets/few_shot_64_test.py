# The test images of a set of few shots at 64 px; a config gives the data set's folder.
dataset_type = 'hyper_mm.CoOpFewShotDataset'
data_preprocessor = dict(
    type='ClsDataPreprocessor',
    mean=[122.7709383, 116.7460125, 104.09373615],
    std=[68.5005327, 66.6321579, 70.3231630],
    to_rgb=True,
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), backend='pillow', interpolation='bicubic'),
    dict(type='PackInputs'),
]
test_dataloader = dict(
    batch_size=100,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type, name='folders', split='test', test_mode=True, pipeline=test_pipeline
    ),
)
test_evaluator = dict(type='Accuracy', topk=1)
