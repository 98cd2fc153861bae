# LatHAdapter on MaPLe on a small CLIP, on Omniglot's five alphabets; its baseline is maple_clip-mini_omniglot.py.
#   python tools/train.py configs/lathadapter/lathadapter_maple_clip-mini_omniglot.py
# Result: 27.77 ± 4.13 % top-1 with 16 shots, seeds 1 2 3 (docs/tables/lathadapter.md)
#   python tools/test.py configs/lathadapter/lathadapter_maple_clip-mini_omniglot.py CHECKPOINT
# Data: data/omniglot; CLIP: tools/experiments/pretrain_tiny_clip.py.
_base_ = 'maple_clip-mini_omniglot.py'
model = dict(head=dict(type='hyper_mm.LatHAdapterHead', num_classes=5, embed_dims=128))
