# A small DeiT-T on the superclasses of BREEDS from random weights: the baseline of himapper_deit-t_breeds.py.
#   python tools/train.py configs/himapper/deit-t_breeds.py
# Result: not trained (12 epochs at 3e-4: 29.65 ± 1.63 % top-1, docs/tables/classification.md)
# Data: data/imagenet_sample (one image of each class of ImageNet-1k, 96x96). 40 epochs. The largest
# superclass has 27.9 %, chance is 7.7 %.
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
