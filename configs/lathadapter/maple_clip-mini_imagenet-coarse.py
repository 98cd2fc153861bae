# MaPLe on a small CLIP, on nine superclasses of ImageNet: 16 shots.
#   python tools/train.py configs/lathadapter/maple_clip-mini_imagenet-coarse.py
# Result: 17.83 ± 3.69 % top-1 with 16 shots, seeds 1 2 3 (docs/tables/lathadapter.md)
#   python tools/test.py configs/lathadapter/maple_clip-mini_imagenet-coarse.py CHECKPOINT
# Data: data/imagenet_sample and data/imagenet_coarse.json; CLIP:
# tools/experiments/pretrain_tiny_clip.py.
_base_ = ['../_base_/models/maple_clip-mini.py', '../_base_/datasets/few_shot_imagenet-coarse.py']
