# DeiT-T fine-tuned on ImageNet-1k: the baseline of himapper_deit-t_imagenet.py.
#   python tools/train.py configs/himapper/deit-t_imagenet.py
# Result: not trained (public weights without fine-tuning: 72.2 % top-1)
# Data: data/imagenet. Batches of 1024 (8 GPUs x 128), 50 epochs of fine-tuning. Starts from
# mmpretrain's public weights (--cfg-options load_from=None for random ones).
_base_ = [
    '../_base_/models/deit_cls.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_50e.py',
]
model = dict(
    backbone=dict(arch='deit-tiny'),
    head=dict(in_channels=192),
)
load_from = (
    'https://download.openmmlab.com/mmclassification/v0/deit/'
    'deit-tiny_pt-4xb256_in1k_20220218-13b382a0.pth'
)
