# Faster R-CNN with a narrow FPN on EfficientNet-Lite0
_base_ = ['./faster-rcnn.py', './efficientnet-lite0.py']
model = dict(
    data_preprocessor=dict(**_base_.pixels),
    backbone=_base_.backbone,
    neck=dict(type='FPN', in_channels=_base_.channels, out_channels=64, num_outs=5),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=3),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200), rcnn=dict(sampler=dict(num=128))
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200)),
)
