# A miniature ViT (4 layers, 128 wide) on Tiny ImageNet: what tools/experiments/run_miniature.py pretrains.
#   python tools/train.py configs/himapper/vit-mini_tiny-imagenet.py
# Result: 10.38 % top-1, seed 0 (docs/tables/miniature.md)
# Data: data/tiny_imagenet (ImageNet folders, 160 classes, 8000 + 1600 images of 64x64, enlarged).
# 16 epochs.
_base_ = [
    '../_base_/models/vit_cls_small.py',
    '../_base_/datasets/tiny_imagenet.py',
    '../_base_/schedules/adamw_cls_small.py',
]
model = dict(
    backbone=dict(
        arch=dict(embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
        img_size=128,
        patch_size=16,
        drop_path_rate=0.0,
    ),
    head=dict(num_classes=160, in_channels=128),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=128, crop_ratio_range=(0.5, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128)),
    dict(type='PackInputs'),
]
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
# in fine-tuning a component is new beside a pretrained backbone
optim_wrapper = dict(paramwise_cfg=dict(component_lr_mult=10.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=20),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=0,
        end=16,
        T_max=16,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=16, val_interval=16)
default_hooks = dict(checkpoint=dict(interval=16))
