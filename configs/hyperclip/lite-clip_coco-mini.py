# LiteCLIP, frozen, as an open-vocabulary Faster R-CNN on 80 images of COCO: 48 base, 17 novel classes.
#   python tools/train.py configs/hyperclip/lite-clip_coco-mini.py
# Result: AP50 base 4.2 ± 1.0, novel 4.4 ± 1.8, three seeds (docs/open_vocab_detection.md)
# Data: data/coco_mini. 8 epochs of 80 images.
_base_ = [
    '../_base_/models/open-vocab_faster-rcnn_lite-clip.py',
    '../_base_/datasets/coco_mini_ov.py',
    '../_base_/schedules/adamw_det_small.py',
    '../_base_/default_runtime_open_vocab_mmdet.py',
]
model = dict(vocabulary='ov-coco65', train_vocabulary='ov-coco48')
max_epochs = 8
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
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1))
