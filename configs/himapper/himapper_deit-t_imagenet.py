# Hi-Mapper, DeiT-T on ImageNet-1k.
#   python tools/train.py configs/himapper/himapper_deit-t_imagenet.py
# Data: data/imagenet. Batches of 1024 (8 GPUs x 128), 50 epochs of fine-tuning.
# Expected: 74.8 top-1 in the paper (DeiT-T without it: 72.2). Not trained here.
_base_ = 'deit-t_imagenet.py'
model = dict(
    type='hyper_mm.ImageClassifier',
    backbone=dict(out_type='raw'),
    neck=dict(type='hyper_mm.HiMapperPooling', in_channels=192, num_prefix_tokens=1),
)
