# PromptSRC on a small CLIP, on nine superclasses of ImageNet: 16 shots.
#   python tools/train.py configs/lathadapter/promptsrc_clip-mini_imagenet-coarse.py
#   python tools/test.py configs/lathadapter/promptsrc_clip-mini_imagenet-coarse.py CHECKPOINT
# Data: data/imagenet_sample and data/imagenet_coarse.json; CLIP: tools/experiments/pretrain_tiny_clip.py.
# Accuracy: docs/tables/lathadapter.md.
_base_ = [
    '../_base_/models/promptsrc_clip-mini.py',
    '../_base_/datasets/few_shot_imagenet-coarse.py',
]
