# Faster R-CNN with a narrow FPN on EfficientNet-Lite0, from stride 8 on (stride 4 would take two thirds
# of the time)
_base_ = ['./faster-rcnn.py', './efficientnet-lite0.py']
model = dict(
    data_preprocessor=dict(**_base_.pixels),
    backbone=_base_.backbone,
    neck=dict(type='FPN', in_channels=_base_.channels, out_channels=64, start_level=1, num_outs=4),
    rpn_head=dict(
        in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4], strides=[8, 16, 32, 64])
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, featmap_strides=[8, 16, 32]),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=3),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200), rcnn=dict(sampler=dict(num=128))
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200)),
)
