# Hi-Mapper, a miniature ViT, Mask R-CNN on a subset of COCO from random weights.
#   python tools/train.py configs/himapper/himapper_vit-mini_coco-mini.py
# Result: box and mask AP 0.0: shows that masks train and test, not that they are learned
# Data: data/coco_mini (80 + 79 images of COCO 2017, long side 320, in its layout). 3 epochs.
_base_ = ['./vit-mini_coco-mini.py', '../_base_/models/himapper_vit-mini.py']
model = dict(
    type='hyper_mm.MaskRCNN',
    neck=dict(
        _delete_=True, type='hyper_mm.HiMapper', neck=_base_.model.neck, **_base_.himapper_mini
    ),
)
