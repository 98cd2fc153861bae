# Hi-Mapper, recommended objective, on EfficientNet-Lite0 (ImageNet weights) before the FPN of Faster R-CNN on blood cells (BCCD).
#   python tools/train.py configs/himapper/himapper_efficientnet-lite0_bccd.py
# Result: not trained
# Data and schedule: those of the plain config, ../efficientnet_lite/efficientnet-lite0_bccd.py.
_base_ = '../efficientnet_lite/efficientnet-lite0_bccd.py'
model = dict(
    type='hyper_mm.FasterRCNN',
    neck=dict(
        _delete_=True,
        type='hyper_mm.HiMapper',
        in_channels=[24, 40, 112, 320],
        level=2,
        recipe='recommended',
        tree=dict(num_leaves=16, num_levels=3),
        neck=_base_.model.neck,
    ),
)
