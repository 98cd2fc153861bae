# MaPLe on a small CLIP, on Omniglot's five alphabets: 16 shots.
#   python tools/train.py configs/lathadapter/maple_clip-mini_omniglot.py
# Result: 28.18 ± 2.91 % top-1 with 16 shots, seeds 1 2 3 (docs/tables/lathadapter.md)
#   python tools/test.py configs/lathadapter/maple_clip-mini_omniglot.py CHECKPOINT
# Data: data/omniglot; CLIP: tools/experiments/pretrain_tiny_clip.py.
_base_ = ['../_base_/models/maple_clip-mini.py', '../_base_/datasets/few_shot_omniglot.py']
