# The miniature ViT, Faster R-CNN on BCCD: the twin of himapper_vit-mini_bccd.py.
#   python tools/train.py configs/himapper/vit-mini_bccd.py --cfg-options load_from=CKPT
# Data: data/bccd. 3 epochs of 205 images from a checkpoint of
# (himapper_)vit-mini_tiny-imagenet(_finetune).py. Expected: docs/tables/miniature.md.
_base_ = [
    '../_base_/models/faster-rcnn_vit-mini.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/adamw_det_small.py',
    '../_base_/default_runtime_mmdet.py',
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=3))
