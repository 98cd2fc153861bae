# DeiT-S + UPerNet on ADE20K: the baseline of himapper_deit-s_ade20k.py.
#   python tools/train.py configs/himapper/deit-s_ade20k.py
# Result: not trained (paper: 43.0 mIoU)
# Data: data/ade/ADEChallengeData2016 (as mmseg prepares it). 8 GPUs x 2 images, 160k iterations.
_base_ = [
    '../_base_/models/upernet_deit.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        embed_dims=384,
        patch_bias=True,  # DeiT has it, mmseg's ViT only if asked
        num_heads=6,
        init_cfg=dict(
            type='Pretrained',
            # the public DeiT weights; the scheme renames them as they load
            checkpoint='timm-vit+https://dl.fbaipublicfiles.com/deit/'
            'deit_small_patch16_224-cd65a155.pth',
        ),
    ),
    decode_head=dict(in_channels=[384, 384, 384, 384]),
    auxiliary_head=dict(in_channels=384),
)
