# DeiT-T + UPerNet on ADE20K: the baseline of himapper_deit-t_ade20k.py.
#   python tools/train.py configs/himapper/deit-t_ade20k.py
# Result: not trained (paper: 37.8 mIoU)
# Data: data/ade/ADEChallengeData2016 (as mmseg prepares it). 8 GPUs x 2 images, 160k iterations.
_base_ = [
    '../_base_/models/upernet_deit.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        embed_dims=192,
        patch_bias=True,  # DeiT has it, mmseg's ViT only if asked
        num_heads=3,
        init_cfg=dict(
            type='Pretrained',
            # the public DeiT weights; the scheme renames them as they load
            checkpoint='timm-vit+https://dl.fbaipublicfiles.com/deit/'
            'deit_tiny_patch16_224-a1311bcf.pth',
        ),
    ),
    decode_head=dict(in_channels=[192, 192, 192, 192]),
    auxiliary_head=dict(in_channels=192),
)
