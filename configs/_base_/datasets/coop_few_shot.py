# One set of CoOp's protocol at 224 px: trained on shots of the base classes, validated on the test
# images of these, tested on the test images of the new ones. Another set by its name:
#   HYPER_MM_SET=dtd python tools/train.py CONFIG
# Folders and split files: docs/lathadapter.md.
_base_ = 'coop_base_new.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomResizedCrop',
        scale=224,
        crop_ratio_range=(0.08, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    drop_last=True,
    dataset=dict(
        type={{_base_.dataset_type}},
        name={{_base_.name}},
        data_root={{_base_.data_root}},
        split='train',
        shots=16,
        seed=1,
        subsample='base',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=4,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type={{_base_.dataset_type}},
        name={{_base_.name}},
        data_root={{_base_.data_root}},
        split='test',
        subsample='base',
        test_mode=True,
        pipeline={{_base_.test_pipeline}},
    ),
)
test_dataloader = dict(dataset=dict(subsample='new'))
val_evaluator = dict(type='Accuracy', topk=1)
test_evaluator = dict(_delete_=True, type='Accuracy', topk=1)
