# LatHAdapter on MaPLe on a small CLIP, on PartScenes' 12 things; its baseline is maple_clip-mini_part-scenes.py.
#   python tools/train.py configs/lathadapter/lathadapter_maple_clip-mini_part-scenes.py
# Result: 56.08 ± 0.46 % top-1 with 16 shots, seeds 1 2 3 (docs/tables/lathadapter.md)
#   python tools/test.py configs/lathadapter/lathadapter_maple_clip-mini_part-scenes.py CHECKPOINT
# Data: data/part_scenes_shots/imagenet; CLIP: tools/experiments/pretrain_tiny_clip.py.
_base_ = 'maple_clip-mini_part-scenes.py'
model = dict(head=dict(type='hyper_mm.LatHAdapterHead', num_classes=12, embed_dims=128))
