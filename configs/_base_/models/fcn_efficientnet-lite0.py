# EfficientNet-Lite0 with a light decoder: its four levels, enlarged to stride 4 and concatenated,
# one 1x1 convolution and the classifier. A config sets the number of classes and the crop.
_base_ = './efficientnet-lite0.py'
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(160, 160),
        **_base_.pixels,
    ),
    backbone=_base_.backbone,
    decode_head=dict(
        type='FCNHead',
        in_channels=_base_.channels,
        in_index=[0, 1, 2, 3],
        input_transform='resize_concat',
        channels=128,
        num_convs=1,
        kernel_size=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
