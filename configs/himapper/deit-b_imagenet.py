# DeiT-B fine-tuned on ImageNet-1k: the baseline of himapper_deit-b_imagenet.py.
#   python tools/train.py configs/himapper/deit-b_imagenet.py
# Result: not trained (public weights without fine-tuning: 81.8 % top-1)
# Data: data/imagenet. Batches of 1024 (8 GPUs x 128), 50 epochs of fine-tuning. Starts from
# mmpretrain's public weights (--cfg-options load_from=None for random ones).
_base_ = [
    '../_base_/models/deit_cls.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_50e.py',
]
model = dict(
    backbone=dict(arch='deit-base'),
    head=dict(in_channels=768),
)
load_from = (
    'https://download.openmmlab.com/mmclassification/v0/deit/'
    'deit-base_pt-16xb64_in1k_20220216-db63c16c.pth'
)
