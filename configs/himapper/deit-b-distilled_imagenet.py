# DeiT-B (distilled) fine-tuned on ImageNet-1k: the baseline of himapper_deit-b-distilled_imagenet.py.
#   python tools/train.py configs/himapper/deit-b-distilled_imagenet.py
# Result: not trained (no published figure)
# Data: data/imagenet. Batches of 1024 (8 GPUs x 128), 50 epochs of fine-tuning. Starts from
# mmpretrain's public weights (--cfg-options load_from=None for random ones). Labels alone train the
# mean of both heads: mmpretrain has no teacher, and says so once.
_base_ = [
    '../_base_/models/deit_cls.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_50e.py',
]
model = dict(
    backbone=dict(type='DistilledVisionTransformer', arch='deit-base'),
    head=dict(type='DeiTClsHead', in_channels=768),
)
load_from = (
    'https://download.openmmlab.com/mmclassification/v0/deit/'
    'deit-base-distilled_3rdparty_pt-16xb64_in1k_20211216-42891296.pth'
)
