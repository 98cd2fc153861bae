# Hi-Mapper, a miniature ViT, Mask R-CNN on PartScenes from random weights.
#   python tools/train.py configs/himapper/himapper_vit-mini_part-scenes_det.py
# Result: not trained
# Data: data/part_scenes/coco, generated in seconds (see vit-mini_part-scenes_det.py). 3 epochs.
_base_ = 'vit-mini_part-scenes_det.py'
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
