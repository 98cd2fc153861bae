# ResNet-50 fine-tuned on ImageNet-1k: the baseline of himapper_resnet-50_imagenet.py.
#   python tools/train.py configs/himapper/resnet-50_imagenet.py
# Result: not trained (public weights without fine-tuning: 76.5 % top-1)
# Data: data/imagenet. Batches of 1024 (8 GPUs x 128), 50 epochs of fine-tuning. Starts from
# mmpretrain's public weights (--cfg-options load_from=None for random ones).
_base_ = [
    '../_base_/models/pooled_cls.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_50e.py',
]
model = dict(
    backbone=dict(type='ResNet', depth=50, num_stages=4, out_indices=(3,), style='pytorch'),
    head=dict(in_channels=2048),
)
load_from = (
    'https://download.openmmlab.com/mmclassification/v0/resnet/'
    'resnet50_8xb32_in1k_20210831-ea4938fc.pth'
)
