# Hi-Mapper, recommended objective, on EfficientNet-Lite0 (ImageNet weights) with a light FCN head on CamVid.
#   python tools/train.py configs/himapper/himapper_efficientnet-lite0_camvid.py
# Result: not trained (50 steps on crops of 96: 15.67 ± 0.36 mIoU, docs/tables/himapper_study.md)
# Data and schedule: those of the plain config, ../efficientnet_lite/efficientnet-lite0_camvid.py.
_base_ = '../efficientnet_lite/efficientnet-lite0_camvid.py'
model = dict(
    type='hyper_mm.EncoderDecoder',
    neck=dict(
        type='hyper_mm.HiMapper',
        in_channels=[24, 40, 112, 320],
        level=2,
        recipe='recommended',
        tree=dict(num_leaves=16, num_levels=3),
    ),
)
