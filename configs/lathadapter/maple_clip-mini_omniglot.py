# MaPLe on a small CLIP, on Omniglot's five alphabets: 16 shots.
#   python tools/train.py configs/lathadapter/maple_clip-mini_omniglot.py
#   python tools/test.py configs/lathadapter/maple_clip-mini_omniglot.py CHECKPOINT
# Data: data/omniglot; CLIP: tools/experiments/pretrain_tiny_clip.py.
# Accuracy: docs/tables/lathadapter.md.
_base_ = ['../_base_/models/maple_clip-mini.py', '../_base_/datasets/few_shot_omniglot.py']
