# Prototypes with alignment (PANet's method) on a ResNet-50 of stride 8; PANet itself has VGG-16
#   python tools/train.py configs/metaseg/protonet_resnet-50_pascal5i.py
# Result: not trained (PANet: mIoU 48.1 and 55.7 with 1 and 5 shots)
#   python tools/test.py configs/metaseg/protonet_resnet-50_pascal5i.py CHECKPOINT
# Other spaces: --cfg-options model.model.decode_head.classifier.distance=lorentz (cosine,
# euclidean, poincare). Data: data/VOCdevkit (see _base_/datasets/pascal5i.py). 30000 episodes of
# one support and one query image.
_base_ = [
    '../_base_/datasets/pascal5i.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/sgd_30k_episodes.py',
]
backbone = dict(
    type='ResNetV1c',
    depth=50,
    dilations=(1, 1, 2, 4),
    strides=(1, 2, 1, 1),
    norm_cfg=dict(type='BN', requires_grad=False),
    norm_eval=True,
    contract_dilation=True,
    init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet50_v1c'),
)
model = dict(
    type='hyper_mm.PrototypicalSegmentor',
    model=dict(
        type='EncoderDecoder',
        data_preprocessor=_base_.data_preprocessor,
        backbone=backbone,
        decode_head=dict(
            type='hyper_mm.PrototypicalHead',
            in_index=3,
            align_weight=1.0,
            classifier=dict(distance='cosine', scale=20.0),
        ),
        test_cfg=dict(mode='whole'),
    ),
)
