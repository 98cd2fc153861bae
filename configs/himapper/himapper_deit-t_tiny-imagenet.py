# Hi-Mapper, a small DeiT-T on Tiny ImageNet from random weights.
#   python tools/train.py configs/himapper/himapper_deit-t_tiny-imagenet.py
# Data: data/tiny_imagenet (ImageNet folders, 160 classes, 8000 + 1600 images of 64x64).
# 3 epochs. Expected: 2.56 top-1 by a schedule of one epoch, seed 0 (chance: 0.63).
# Three epochs: not trained here.
_base_ = 'deit-t_tiny-imagenet.py'
model = dict(
    type='hyper_mm.ImageClassifier',
    backbone=dict(out_type='raw'),
    neck=dict(type='hyper_mm.HiMapperPooling', in_channels=192, num_prefix_tokens=1),
)
