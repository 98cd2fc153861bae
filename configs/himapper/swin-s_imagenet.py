# Swin-S fine-tuned on ImageNet-1k: the baseline of himapper_swin-s_imagenet.py.
#   python tools/train.py configs/himapper/swin-s_imagenet.py
# Result: not trained (public weights without fine-tuning: 83.0 % top-1)
# Data: data/imagenet. Batches of 1024 (8 GPUs x 128), 50 epochs of fine-tuning. Starts from
# mmpretrain's public weights (--cfg-options load_from=None for random ones).
_base_ = [
    '../_base_/models/swin_cls.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_50e.py',
]
model = dict(backbone=dict(arch='small', drop_path_rate=0.3))
load_from = (
    'https://download.openmmlab.com/mmclassification/v0/swin-transformer/'
    'swin_small_224_b16x64_300e_imagenet_20210615_110219-7f9d988b.pth'
)
