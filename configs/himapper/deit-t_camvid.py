# DeiT-T + UPerNet on CamVid from random weights: the baseline of himapper_deit-t_camvid.py.
#   python tools/train.py configs/himapper/deit-t_camvid.py
# Result: 22.50 ± 0.22 mIoU, seeds 0 1 2 (docs/tables/camvid.md)
# Data: data/camvid (ADE20K layout, 367 + 101 images of 240x180). 400 iterations of 8 images. 3 to 4
# minutes on 2 cores.
_base_ = [
    '../_base_/models/upernet_deit.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/adamw_400.py',
    '../_base_/default_runtime.py',
]
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=(160, 160)),
    backbone=dict(img_size=(160, 160), embed_dims=192, num_heads=3, init_cfg=None),
    decode_head=dict(
        in_channels=[192, 192, 192, 192], channels=128, num_classes=11, norm_cfg=norm_cfg
    ),
    auxiliary_head=dict(in_channels=192, channels=64, num_classes=11, norm_cfg=norm_cfg),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=400, max_keep_ckpts=2))
auto_scale_lr = dict(enable=False, base_batch_size=8)
