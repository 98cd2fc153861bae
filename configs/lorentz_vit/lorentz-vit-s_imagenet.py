# LorentzViT-S on ImageNet-1k from random weights, by the data and the heads of DeiT-S.
#   python tools/train.py configs/lorentz_vit/lorentz-vit-s_imagenet.py
# Result: not trained (DeiT-S by a like recipe: 79.8 % top-1)
# Data: data/imagenet. Batches of 1024 (8 GPUs x 128), 300 epochs.
_base_ = [
    '../_base_/models/deit_cls.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_50e.py',
]
model = dict(
    backbone=dict(_delete_=True, type='hyper_mm.LorentzViT', arch='small', drop_path_rate=0.1),
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        T_max=295,
        eta_min=1e-5,
        by_epoch=True,
        begin=5,
        end=300,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=300, val_interval=10)
