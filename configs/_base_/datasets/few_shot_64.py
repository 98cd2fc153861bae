# A set of few shots at 64 px: 16 shots of all classes; a config gives the data set's folder.
_base_ = 'few_shot_64_test.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomResizedCrop',
        scale=64,
        crop_ratio_range=(0.5, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    drop_last=False,
    dataset=dict(
        type='hyper_mm.CoOpFewShotDataset',
        name='folders',
        split='train',
        shots=16,
        seed=1,
        subsample='all',
        pipeline=train_pipeline,
    ),
)
