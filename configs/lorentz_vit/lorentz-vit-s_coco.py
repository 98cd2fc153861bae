# LorentzViT-S, Mask R-CNN with a simple feature pyramid on COCO: as deit-s_coco.py with another backbone.
#   python tools/train.py configs/lorentz_vit/lorentz-vit-s_coco.py
# Result: not trained
# Data: data/coco (as mmdet prepares it). 8 GPUs x 2 images, 12 epochs, from a checkpoint of
# lorentz-vit-s_imagenet.py.
_base_ = [
    '../_base_/models/mask-rcnn_deit.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_1x_coco.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(
        _delete_=True,
        type='hyper_mm.LorentzViT',
        arch='small',
        out_type='featmap',
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/lorentz-vit-s_imagenet/epoch_300.pth',
            prefix='backbone.',
        ),
    ),
)
