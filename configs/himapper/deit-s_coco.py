# DeiT-S, Mask R-CNN on COCO: the baseline of himapper_deit-s_coco.py.
#   python tools/train.py configs/himapper/deit-s_coco.py
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
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmclassification/v0/deit/'
            'deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth',
            prefix='backbone.',
        ),
    ),
)
