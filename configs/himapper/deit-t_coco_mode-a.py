# DeiT-T fine-tuned with Hi-Mapper (mode A: the module is dropped), Mask R-CNN on COCO.
#   python tools/train.py configs/himapper/deit-t_coco_mode-a.py
# Result: not trained
# Before it:
#   python tools/model_converters/export_backbone.py work_dirs/himapper_deit-t_imagenet/epoch_50.pth work_dirs/himapper_deit-t_backbone.pth
# Data: data/coco (as mmdet prepares it). 8 GPUs x 2 images, 12 epochs. Differs from deit-t_coco.py
# in the weights it starts from.
_base_ = 'deit-t_coco.py'
model = dict(
    backbone=dict(
        init_cfg=dict(
            _delete_=True,
            type='Pretrained',
            checkpoint='work_dirs/himapper_deit-t_backbone.pth',
        )
    )
)
