# LatHAdapter on PromptKD on a small CLIP, on PartScenes' 12 things; its baseline is promptkd_clip-mini_part-scenes.py.
#   python tools/train.py configs/lathadapter/lathadapter_promptkd_clip-mini_part-scenes.py
# Result: 54.34 ± 3.01 % top-1, its teacher with 16 shots, seeds 1 2 3 (docs/tables/lathadapter.md)
#   python tools/test.py configs/lathadapter/lathadapter_promptkd_clip-mini_part-scenes.py CHECKPOINT
# Data: data/part_scenes_shots/imagenet; CLIP: tools/experiments/pretrain_tiny_clip.py.
_base_ = 'promptkd_clip-mini_part-scenes.py'
model = dict(head=dict(type='hyper_mm.LatHAdapterHead', num_classes=12, embed_dims=128))
