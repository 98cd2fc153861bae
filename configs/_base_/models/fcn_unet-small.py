# FedDG's size of U-Net: 16 channels, norms without running statistics
norm_cfg = dict(type='IN', requires_grad=True, affine=True)
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size_divisor=16,
    test_cfg=dict(size_divisor=16),
)
segmentor = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(type='UNet', base_channels=16, norm_cfg=norm_cfg),
    decode_head=dict(
        type='FCNHead',
        in_channels=16,
        in_index=4,
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
