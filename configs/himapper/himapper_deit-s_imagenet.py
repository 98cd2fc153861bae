# Hi-Mapper, DeiT-S on ImageNet-1k.
#   python tools/train.py configs/himapper/himapper_deit-s_imagenet.py
# Result: not trained (paper: 82.6 % top-1; without Hi-Mapper 79.8)
# Data: data/imagenet. Batches of 1024 (8 GPUs x 128), 50 epochs of fine-tuning.
_base_ = 'deit-s_imagenet.py'
model = dict(
    type='hyper_mm.ImageClassifier',
    backbone=dict(out_type='raw'),
    neck=dict(type='hyper_mm.HiMapperPooling', in_channels=384, num_prefix_tokens=1),
)
