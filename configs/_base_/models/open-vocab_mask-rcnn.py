# Open-vocabulary Mask R-CNN (F-VLM's arrangement) without backbone and neck. Without a network:
# --cfg-options model.backbone.clip.pretrained=
_base_ = './mask-rcnn.py'
model = dict(
    type='hyper_mm.OpenVocabMaskRCNN',
    data_preprocessor=dict(
        mean=[122.7709383, 116.7460125, 104.09373615],
        std=[68.5005327, 66.6321579, 70.3231630],
    ),
    # of predictions: another built-in name, a file with one class a line, or a list
    vocabulary='ov-coco65',
    train_vocabulary='ov-coco48',
    roi_head=dict(
        type='hyper_mm.OpenVocabRoIHead',
        ensemble=dict(base=0.35, novel=0.65, temperature=0.01),
        bbox_head=dict(
            _delete_=True,
            type='hyper_mm.OpenVocabBBoxHead',
            in_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            embed_dims=512,
            temperature=0.01,
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder',
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[0.1, 0.1, 0.2, 0.2],
            ),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0),
        ),
        mask_head=dict(class_agnostic=True, num_classes=1),
    ),
    # scores are products over many names: no threshold but the number of detections
    test_cfg=dict(rcnn=dict(score_thr=0.0)),
)
