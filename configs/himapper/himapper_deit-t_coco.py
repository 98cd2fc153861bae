# Hi-Mapper (mode B: a neck), DeiT-T, Mask R-CNN on COCO.
#   python tools/train.py configs/himapper/himapper_deit-t_coco.py
# Result: not trained (the paper states relative gains only)
# Data: data/coco (as mmdet prepares it). 8 GPUs x 2 images, 12 epochs.
_base_ = 'deit-t_coco.py'
model = dict(
    type='hyper_mm.MaskRCNN',
    neck=dict(_delete_=True, type='hyper_mm.HiMapper', in_channels=192, neck=_base_.model.neck),
)
