# Hi-Mapper, a miniature ViT, Mask R-CNN on a subset of COCO from random weights.
#   python tools/train.py configs/himapper/himapper_vit-mini_coco-mini.py
# Result: box and mask AP 0.0: shows that masks train and test, not that they are learned
# Data: data/coco_mini (80 + 79 images of COCO 2017, long side 320, in its layout). 3 epochs.
_base_ = 'vit-mini_coco-mini.py'
model = dict(
    type='hyper_mm.MaskRCNN',
    neck=dict(
        _delete_=True,
        type='hyper_mm.HiMapper',
        in_channels=128,
        num_leaves=16,
        num_levels=3,
        width=64,
        num_heads=2,
        hyp_dim=64,
        neck=_base_.model.neck,
    ),
)
