# Hi-Mapper, DeiT-B on ImageNet-1k.
#   python tools/train.py configs/himapper/himapper_deit-b_imagenet.py
# Data: data/imagenet. Batches of 1024 (8 GPUs x 128), 50 epochs of fine-tuning.
# Expected: 83.4 top-1 in the paper (DeiT-B without it: 81.8). Not trained here.
_base_ = 'deit-b_imagenet.py'
model = dict(
    type='hyper_mm.ImageClassifier',
    backbone=dict(out_type='raw'),
    neck=dict(type='hyper_mm.HiMapperPooling', in_channels=768, num_prefix_tokens=1),
)
