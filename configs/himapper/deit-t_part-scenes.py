# A small DeiT + UPerNet on PartScenes from random weights: the baseline of himapper_deit-t_part-scenes.py.
#   python tools/train.py configs/himapper/deit-t_part-scenes.py
# Result: not trained
# Data: data/part_scenes/ade, generated in seconds (see _base_/datasets/part_scenes.py). 400
# iterations of 16 images.
_base_ = [
    '../_base_/models/upernet_deit.py',
    '../_base_/datasets/part_scenes.py',
    '../_base_/schedules/adamw_400.py',
    '../_base_/default_runtime.py',
]
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=(96, 96)),
    # the width of DeiT-T, four of its layers, patches of 8 pixels
    backbone=dict(
        img_size=(96, 96),
        patch_size=8,
        embed_dims=192,
        num_heads=3,
        num_layers=4,
        out_indices=(0, 1, 2, 3),
        init_cfg=None,
    ),
    decode_head=dict(
        in_channels=[192, 192, 192, 192], channels=64, num_classes=19, norm_cfg=norm_cfg
    ),
    auxiliary_head=dict(in_channels=192, channels=64, num_classes=19, norm_cfg=norm_cfg),
)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=100, max_keep_ckpts=2))
auto_scale_lr = dict(enable=False, base_batch_size=16)
