# Hi-Mapper, a small DeiT-T on the superclasses of BREEDS from random weights.
#   python tools/train.py configs/himapper/himapper_deit-t_breeds.py
# Data: data/imagenet_sample (one image of each class of ImageNet-1k, 96x96).
# 40 epochs. Expected: unknown; 12 at 3e-4: 29.7 ± 0.4 top-1, as its twin.
_base_ = 'deit-t_breeds.py'
model = dict(
    type='hyper_mm.ImageClassifier',
    backbone=dict(out_type='raw'),
    neck=dict(type='hyper_mm.HiMapperPooling', in_channels=192, num_prefix_tokens=1),
)
