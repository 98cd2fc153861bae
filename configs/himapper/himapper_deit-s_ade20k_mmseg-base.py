# Hi-Mapper mixed into a stock mmseg config: the way to add a component to a config of your own.
#   python tools/train.py configs/himapper/himapper_deit-s_ade20k_mmseg-base.py
# Result: not trained (paper: 46.3 mIoU)
# Same model, schedule and weights as himapper_deit-s_ade20k.py.
_base_ = 'mmseg::vit/vit_deit-s16_upernet_8xb2-160k_ade20k-512x512.py'
model = dict(
    type='hyper_mm.EncoderDecoder',
    pretrained=None,  # mmseg's config names a local file
    backbone=dict(
        output_cls_token=True,
        patch_bias=True,  # DeiT has this bias
        init_cfg=dict(
            type='Pretrained',
            checkpoint='timm-vit+https://dl.fbaipublicfiles.com/deit/'
            'deit_small_patch16_224-cd65a155.pth',
        ),
    ),
    neck=dict(_delete_=True, type='hyper_mm.HiMapper', in_channels=384),
)
optim_wrapper = dict(constructor='hyper_mm.ComponentOptimWrapperConstructor')
