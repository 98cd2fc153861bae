# Hi-Mapper, a small DeiT-T on the superclasses of BREEDS from random weights.
#   python tools/train.py configs/himapper/himapper_deit-t_breeds.py
# Result: not trained
# Data: data/imagenet_sample (one image of each class of ImageNet-1k, 96x96). 40 epochs.
_base_ = 'deit-t_breeds.py'
model = dict(
    type='hyper_mm.ImageClassifier',
    backbone=dict(out_type='raw'),
    neck=dict(type='hyper_mm.HiMapperPooling', in_channels=192, num_prefix_tokens=1),
)
