# Hi-Mapper, a miniature ViT, Mask R-CNN on PartScenes from random weights.
#   python tools/train.py configs/himapper/himapper_vit-mini_part-scenes_det.py
# Result: not trained
# Data: data/part_scenes/coco, generated in seconds (see vit-mini_part-scenes_det.py). 3 epochs.
_base_ = ['./vit-mini_part-scenes_det.py', '../_base_/models/himapper_vit-mini.py']
model = dict(
    type='hyper_mm.MaskRCNN',
    neck=dict(
        _delete_=True, type='hyper_mm.HiMapper', neck=_base_.model.neck, **_base_.himapper_mini
    ),
)
