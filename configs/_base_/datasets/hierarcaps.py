# HierarCaps chains for training; its test captions with images, and HyperLex, for validation.
# Folders: data/hierarcaps (hierarcaps_train.csv.gz, hierarcaps_test.csv, images/) and data/hyperlex
# (hyperlex-all.txt). Images of the test set are square: they are resized to the size of the tower.
data_root = '{{$HYPER_MM_DATA:data}}/hierarcaps'
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='hyper_mm.HierarCapsDataset',
        data_root=data_root,
        ann_file='hierarcaps_train.csv.gz',
        pipeline=[dict(type='hyper_mm.PackTexts')],
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(
                type='hyper_mm.HierarCapsDataset',
                data_root=data_root,
                ann_file='hierarcaps_test.csv',
                mode='test',
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='Resize', scale=(224, 224), interpolation='bicubic'),
                    dict(type='hyper_mm.PackTexts'),
                ],
            ),
            dict(
                type='hyper_mm.HyperLexDataset',
                data_root='{{$HYPER_MM_DATA:data}}/hyperlex',
                ann_file='hyperlex-all.txt',
                pipeline=[dict(type='hyper_mm.PackTexts')],
            ),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='hyper_mm.HierarCapsMetric', steps=50),
    dict(type='hyper_mm.HyperLexMetric'),
]
test_evaluator = val_evaluator
