# Hi-Mapper (mode B: a neck), Swin-T, Mask R-CNN on COCO.
#   python tools/train.py configs/himapper/himapper_swin-t_coco.py
# Result: not trained
# Data: data/coco (as mmdet prepares it). 8 GPUs x 2 images, 12 epochs.
_base_ = 'swin-t_coco.py'
model = dict(
    type='hyper_mm.MaskRCNN',
    neck=dict(
        _delete_=True,
        type='hyper_mm.HiMapper',
        in_channels=[96, 192, 384, 768],
        neck=_base_.model.neck,
    ),
)
