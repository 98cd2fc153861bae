# EfficientNet-B4 fine-tuned on ImageNet-1k: the baseline of himapper_efficientnet-b4_imagenet.py.
#   python tools/train.py configs/himapper/efficientnet-b4_imagenet.py
# Result: not trained (public weights without fine-tuning: 82.9 % top-1)
# Data: data/imagenet. Batches of 1024 (8 GPUs x 128), 50 epochs of fine-tuning. Starts from
# mmpretrain's public weights (--cfg-options load_from=None for random ones).
_base_ = [
    '../_base_/models/pooled_cls.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_50e.py',
]
model = dict(
    backbone=dict(type='EfficientNet', arch='b4'),
    head=dict(in_channels=1792),
)
# 380 px
train_pipeline = _base_.train_pipeline
train_pipeline[1] = dict(type='EfficientNetRandomCrop', scale=380)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='EfficientNetCenterCrop', crop_size=380),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
load_from = (
    'https://download.openmmlab.com/mmclassification/v0/efficientnet/'
    'efficientnet-b4_3rdparty_8xb32-aa_in1k_20220119-45b8bd2b.pth'
)
