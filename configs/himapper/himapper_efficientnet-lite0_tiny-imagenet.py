# Hi-Mapper, recommended objective, on EfficientNet-Lite0 (ImageNet weights) in place of the pooling on Tiny ImageNet.
#   python tools/train.py configs/himapper/himapper_efficientnet-lite0_tiny-imagenet.py
# Result: not trained
# Data and schedule: those of the plain config, ../efficientnet_lite/efficientnet-lite0_tiny-imagenet.py.
_base_ = '../efficientnet_lite/efficientnet-lite0_tiny-imagenet.py'
model = dict(
    type='hyper_mm.ImageClassifier',
    neck=dict(
        _delete_=True,
        type='hyper_mm.HiMapperPooling',
        in_channels=320,
        recipe='recommended',
        tree=dict(num_leaves=8, num_levels=3),
    ),
)
