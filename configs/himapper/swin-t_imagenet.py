# Swin-T fine-tuned on ImageNet-1k: the baseline of himapper_swin-t_imagenet.py.
#   python tools/train.py configs/himapper/swin-t_imagenet.py
# Result: not trained (public weights without fine-tuning: 81.2 % top-1)
# Data: data/imagenet. Batches of 1024 (8 GPUs x 128), 50 epochs of fine-tuning. Starts from
# mmpretrain's public weights (--cfg-options load_from=None for random ones).
_base_ = [
    '../_base_/models/swin_cls.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_50e.py',
]
model = dict(backbone=dict(arch='tiny', drop_path_rate=0.2))
load_from = (
    'https://download.openmmlab.com/mmclassification/v0/swin-transformer/'
    'swin_tiny_224_b16x64_300e_imagenet_20210616_090925-66df6be6.pth'
)
