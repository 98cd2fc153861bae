# PromptSRC on a small CLIP, on Omniglot's five alphabets: 16 shots.
#   python tools/train.py configs/lathadapter/promptsrc_clip-mini_omniglot.py
# Result: 28.23 ± 1.55 % top-1 with 16 shots, seeds 1 2 3 (docs/tables/lathadapter.md)
#   python tools/test.py configs/lathadapter/promptsrc_clip-mini_omniglot.py CHECKPOINT
# Data: data/omniglot; CLIP: tools/experiments/pretrain_tiny_clip.py.
_base_ = ['../_base_/models/promptsrc_clip-mini.py', '../_base_/datasets/few_shot_omniglot.py']
