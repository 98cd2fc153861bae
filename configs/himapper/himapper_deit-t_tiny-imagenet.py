# Hi-Mapper, a small DeiT-T on Tiny ImageNet from random weights.
#   python tools/train.py configs/himapper/himapper_deit-t_tiny-imagenet.py
# Result: not trained (one epoch: 2.56 % top-1, seed 0)
# Data: data/tiny_imagenet (ImageNet folders, 160 classes, 8000 + 1600 images of 64x64). 3 epochs.
# Chance: 0.63 %.
_base_ = 'deit-t_tiny-imagenet.py'
model = dict(
    type='hyper_mm.ImageClassifier',
    backbone=dict(out_type='raw'),
    neck=dict(type='hyper_mm.HiMapperPooling', in_channels=192, num_prefix_tokens=1),
)
