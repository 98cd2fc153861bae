# PromptKD on a small CLIP, on PartScenes' 12 things: all training images, without labels.
#   python tools/train.py configs/lathadapter/promptkd_clip-mini_part-scenes.py
# Result: 54.11 ± 2.54 % top-1, its teacher with 16 shots, seeds 1 2 3 (docs/tables/lathadapter.md)
#   python tools/test.py configs/lathadapter/promptkd_clip-mini_part-scenes.py CHECKPOINT
# Data: data/part_scenes_shots/imagenet; CLIP: tools/experiments/pretrain_tiny_clip.py.
_base_ = ['../_base_/models/promptkd_clip-mini.py', '../_base_/datasets/few_shot_part-scenes.py']
train_dataloader = dict(drop_last=True, dataset=dict(shots=None))
