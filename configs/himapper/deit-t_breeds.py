# A small DeiT-T on the superclasses of BREEDS from random weights: the twin of
# himapper_deit-t_breeds.py.
#   python tools/train.py configs/himapper/deit-t_breeds.py
# Data: data/imagenet_sample (one image of each class of ImageNet-1k, 96x96).
# 40 epochs. Expected: unknown, not trained here; 12 at 3e-4 gave 29.7 ± 1.6 top-1, 10.8 ± 1.1
# mean recall, hardly more than guessing (27.9 the largest superclass, 7.7 chance).
_base_ = [
    '../_base_/models/vit_cls_small.py',
    '../_base_/datasets/breeds.py',
    '../_base_/schedules/adamw_cls_small.py',
]
model = dict(
    backbone=dict(img_size=96, patch_size=16),
    head=dict(num_classes=13),
)
train_cfg = dict(max_epochs=40, val_interval=10)
