# Closed-vocabulary Faster R-CNN on EfficientNet-Lite0, 48 classes of COCO: baseline of lite-clip_coco-mini.py.
#   python tools/train.py configs/hyperclip/closed_lite-clip_coco-mini.py
# Result: AP50 of the 48 classes 0.3 ± 0.1, three seeds (other classes have no output, so novel AP is 0)
# Data and schedule are those of lite-clip_coco-mini.py, scored on the 48 classes alone.
_base_ = [
    '../_base_/models/faster-rcnn_efficientnet-lite0.py',
    '../_base_/datasets/coco_mini_ov.py',
    '../_base_/schedules/adamw_det_small.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(roi_head=dict(bbox_head=dict(num_classes=48)))
metainfo = dict(_delete_=True, classes=_base_.base_classes)
val_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', metric='bbox')
test_evaluator = val_evaluator
max_epochs = 8
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        convert_to_iter_based=True,
    ),
]
# trained with the detector, as such detectors are
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.25)}))
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1))
