# A small DeiT-T on Tiny ImageNet from random weights: the baseline of himapper_deit-t_tiny-imagenet.py.
#   python tools/train.py configs/himapper/deit-t_tiny-imagenet.py
# Result: not trained (one epoch: 2.69 % top-1, seed 0)
# Data: data/tiny_imagenet (ImageNet folders, 160 classes, 8000 + 1600 images of 64x64). 3 epochs.
# Chance: 0.63 %.
_base_ = [
    '../_base_/models/vit_cls_small.py',
    '../_base_/datasets/tiny_imagenet.py',
    '../_base_/schedules/adamw_cls_small.py',
]
model = dict(
    head=dict(num_classes=160),
)
train_cfg = dict(max_epochs=3, val_interval=3)
