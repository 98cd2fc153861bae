# LatHAdapter on PromptSRC on a small CLIP, on PartScenes' 12 things; its baseline is promptsrc_clip-mini_part-scenes.py.
#   python tools/train.py configs/lathadapter/lathadapter_promptsrc_clip-mini_part-scenes.py
# Result: 55.90 ± 0.30 % top-1 with 16 shots, seeds 1 2 3 (docs/tables/lathadapter.md)
#   python tools/test.py configs/lathadapter/lathadapter_promptsrc_clip-mini_part-scenes.py CHECKPOINT
# Data: data/part_scenes_shots/imagenet; CLIP: tools/experiments/pretrain_tiny_clip.py.
_base_ = 'promptsrc_clip-mini_part-scenes.py'
model = dict(head=dict(type='hyper_mm.LatHAdapterHead', num_classes=12, embed_dims=128))
