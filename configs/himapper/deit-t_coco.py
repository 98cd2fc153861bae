# DeiT-T, Mask R-CNN on COCO: the baseline of himapper_deit-t_coco.py.
#   python tools/train.py configs/himapper/deit-t_coco.py
# Result: not trained
# Data: data/coco (as mmdet prepares it). 8 GPUs x 2 images, 12 epochs.
_base_ = [
    '../_base_/models/mask-rcnn_deit.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x_coco.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(
        arch='deit-tiny',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmclassification/v0/deit/'
            'deit-tiny_pt-4xb256_in1k_20220218-13b382a0.pth',
            prefix='backbone.',
        ),
    ),
    neck=dict(in_channels=192),
)
