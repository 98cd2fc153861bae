# A U-Net whose encoder is EfficientNet-Lite0 with ImageNet weights (levels of 16, 24, 40, 112, 320
# channels at strides 2 to 32, statistics of the batch norms as pretrained); its decoder has group
# norms. 3.6 M parameters, logits at stride 2.
_base_ = './efficientnet-lite0.py'
levels = [16, 24, 40, 112, 320]
norm_cfg = dict(type='GN', num_groups=8)
segmentor = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=32,
        test_cfg=dict(size_divisor=32),
        **_base_.pixels,
    ),
    backbone=dict(
        _base_.backbone, type='hyper_mm.NormEvalTIMMBackbone', out_indices=(0, 1, 2, 3, 4)
    ),
    neck=dict(
        type='hyper_mm.UNetDecoder',
        in_channels=levels,
        out_channels=[64, 32, 24, 16],
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        type='FCNHead',
        in_channels=16,
        in_index=0,
        channels=16,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=2,
        norm_cfg=norm_cfg,
        loss_decode=dict(type='hyper_mm.BatchDiceLoss', background=0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
