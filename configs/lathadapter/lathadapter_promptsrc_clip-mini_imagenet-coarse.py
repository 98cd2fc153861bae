# LatHAdapter on PromptSRC on a small CLIP, on nine superclasses of ImageNet: the twin of
# promptsrc_clip-mini_imagenet-coarse.py.
#   python tools/train.py configs/lathadapter/lathadapter_promptsrc_clip-mini_imagenet-coarse.py
#   python tools/test.py configs/lathadapter/lathadapter_promptsrc_clip-mini_imagenet-coarse.py CHECKPOINT
# Data: data/imagenet_sample and data/imagenet_coarse.json; CLIP: tools/experiments/pretrain_tiny_clip.py.
# Accuracy: docs/tables/lathadapter.md.
_base_ = 'promptsrc_clip-mini_imagenet-coarse.py'
model = dict(head=dict(type='hyper_mm.LatHAdapterHead', num_classes=9, dim=128))
