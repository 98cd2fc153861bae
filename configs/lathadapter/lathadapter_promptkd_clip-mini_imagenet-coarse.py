# LatHAdapter on PromptKD on a small CLIP, on nine superclasses of ImageNet; its baseline is promptkd_clip-mini_imagenet-coarse.py.
#   python tools/train.py configs/lathadapter/lathadapter_promptkd_clip-mini_imagenet-coarse.py
# Result: 8.33 ± 2.02 % top-1, its teacher with 16 shots, seeds 1 2 3 (docs/tables/lathadapter.md)
#   python tools/test.py configs/lathadapter/lathadapter_promptkd_clip-mini_imagenet-coarse.py CHECKPOINT
# Data: data/imagenet_sample and data/imagenet_coarse.json; CLIP:
# tools/experiments/pretrain_tiny_clip.py.
_base_ = 'promptkd_clip-mini_imagenet-coarse.py'
model = dict(head=dict(type='hyper_mm.LatHAdapterHead', num_classes=9, embed_dims=128))
