# Open-vocabulary Faster R-CNN with a narrow FPN on LiteCLIP's image tower, whose weights packages carry
_base_ = ['./faster-rcnn.py']
model = dict(
    type='hyper_mm.OpenVocabFasterRCNN',
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(type='hyper_mm.CLIPBackbone', clip=dict(model='lite-clip-b0')),
    neck=dict(type='FPN', in_channels=[24, 40, 112, 320], out_channels=64, num_outs=5),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        type='hyper_mm.OpenVocabRoIHead',
        # LiteCLIP's cosines are flatter than CLIP's: chosen on the boxes of coco_mini's training set
        ensemble=dict(base=0.35, novel=0.65, temperature=0.04),
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(
            _delete_=True,
            type='hyper_mm.OpenVocabBBoxHead',
            in_channels=64,
            fc_out_channels=256,
            roi_feat_size=7,
            embed_dims=1280,
            temperature=0.03,
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder',
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[0.1, 0.1, 0.2, 0.2],
            ),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0),
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200), rcnn=dict(sampler=dict(num=128))
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200), rcnn=dict(score_thr=0.0)),
)
