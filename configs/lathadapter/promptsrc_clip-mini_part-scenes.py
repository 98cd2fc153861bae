# PromptSRC on a small CLIP, on PartScenes' 12 things: 16 shots.
#   python tools/train.py configs/lathadapter/promptsrc_clip-mini_part-scenes.py
#   python tools/test.py configs/lathadapter/promptsrc_clip-mini_part-scenes.py CHECKPOINT
# Data: data/part_scenes/imagenet; CLIP: tools/experiments/pretrain_tiny_clip.py.
# Accuracy: docs/tables/lathadapter.md.
_base_ = ['../_base_/models/promptsrc_clip-mini.py', '../_base_/datasets/few_shot_part-scenes.py']
