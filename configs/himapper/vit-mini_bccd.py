# The miniature ViT, Faster R-CNN on BCCD: the baseline of himapper_vit-mini_bccd.py.
#   python tools/train.py configs/himapper/vit-mini_bccd.py --cfg-options load_from=CKPT
# Result: 26.97 ± 1.46 box AP50 from vit-mini_tiny-imagenet.py, seeds 0 1 2 (docs/tables/miniature.md)
# Data: data/bccd. 3 epochs of 205 images from a checkpoint of (himapper_)vit-mini_tiny-
# imagenet(_finetune).py.
_base_ = [
    '../_base_/models/faster-rcnn_vit-mini.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/adamw_det_small.py',
    '../_base_/default_runtime_mmdet.py',
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=3))
