# A small DeiT-T on Tiny ImageNet from random weights: the twin of
# himapper_deit-t_tiny-imagenet.py.
#   python tools/train.py configs/himapper/deit-t_tiny-imagenet.py
# Data: data/tiny_imagenet (ImageNet folders, 160 classes, 8000 + 1600 images of 64x64).
# 3 epochs. Expected: 2.69 top-1 by a schedule of one epoch, seed 0 (chance: 0.63).
# Three epochs: not trained here.
_base_ = [
    '../_base_/models/vit_cls_small.py',
    '../_base_/datasets/tiny_imagenet.py',
    '../_base_/schedules/adamw_cls_small.py',
]
model = dict(
    head=dict(num_classes=160),
)
train_cfg = dict(max_epochs=3, val_interval=3)
