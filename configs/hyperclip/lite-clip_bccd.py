# LiteCLIP, frozen, as an open-vocabulary Faster R-CNN on blood cells; the platelets are novel.
#   python tools/train.py configs/hyperclip/lite-clip_bccd.py
# Result: AP50 base 88.1, novel 0.07, seed 0 (docs/open_vocab_detection.md)
# Data: data/bccd. 3 epochs of 205 images.
_base_ = [
    '../_base_/models/open-vocab_faster-rcnn_lite-clip.py',
    '../_base_/datasets/bccd_ov.py',
    '../_base_/schedules/adamw_det_small.py',
    '../_base_/default_runtime_open_vocab_mmdet.py',
]
model = dict(
    train_vocabulary=['red blood cell, RBC', 'white blood cell, WBC'],
    vocabulary=['red blood cell, RBC', 'white blood cell, WBC', 'platelets, Platelets'],
)
max_epochs = 3
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
