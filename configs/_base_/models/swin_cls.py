# A Swin Transformer and a linear classifier, initialized as in mmpretrain's configs of Swin
_base_ = './pooled_cls.py'
model = dict(
    backbone=dict(type='SwinTransformer', img_size=224),
    head=dict(in_channels=768, init_cfg=None),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
)
