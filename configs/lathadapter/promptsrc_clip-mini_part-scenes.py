# PromptSRC on a small CLIP, on PartScenes' 12 things: 16 shots.
#   python tools/train.py configs/lathadapter/promptsrc_clip-mini_part-scenes.py
# Result: 57.12 ± 0.76 % top-1 with 16 shots, seeds 1 2 3 (docs/tables/lathadapter.md)
#   python tools/test.py configs/lathadapter/promptsrc_clip-mini_part-scenes.py CHECKPOINT
# Data: data/part_scenes_shots/imagenet; CLIP: tools/experiments/pretrain_tiny_clip.py.
_base_ = ['../_base_/models/promptsrc_clip-mini.py', '../_base_/datasets/few_shot_part-scenes.py']
