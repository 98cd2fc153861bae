# LatHAdapter on PromptKD on a small CLIP, on Omniglot's five alphabets; its baseline is promptkd_clip-mini_omniglot.py.
#   python tools/train.py configs/lathadapter/lathadapter_promptkd_clip-mini_omniglot.py
# Result: 27.87 ± 1.46 % top-1, its teacher with 16 shots, seeds 1 2 3 (docs/tables/lathadapter.md)
#   python tools/test.py configs/lathadapter/lathadapter_promptkd_clip-mini_omniglot.py CHECKPOINT
# Data: data/omniglot; CLIP: tools/experiments/pretrain_tiny_clip.py.
_base_ = 'promptkd_clip-mini_omniglot.py'
model = dict(head=dict(type='hyper_mm.LatHAdapterHead', num_classes=5, embed_dims=128))
