# Swin-T, Mask R-CNN on COCO: the baseline of himapper_swin-t_coco.py.
#   python tools/train.py configs/himapper/swin-t_coco.py
# Result: not trained (mmdet's own: 42.7 box AP, 39.3 mask AP)
# Data: data/coco (as mmdet prepares it). 8 GPUs x 2 images, 12 epochs.
_base_ = [
    '../_base_/models/mask-rcnn_swin.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x_coco.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/'
            'swin_tiny_patch4_window7_224.pth',
        ),
    ),
)
