# DeiT-S, Mask R-CNN on COCO for three times as long.
#   python tools/train.py configs/himapper/deit-s_coco_3x.py
# Result: not trained
# Data: data/coco (as mmdet prepares it). 8 GPUs x 2 images, 36 epochs.
_base_ = 'deit-s_coco.py'
max_epochs = 36
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(
        type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[27, 33], gamma=0.1
    ),
]
