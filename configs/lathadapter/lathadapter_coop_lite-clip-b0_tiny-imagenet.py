# LatHAdapter on deep prompts of LiteCLIP's text tower; its baseline is coop_lite-clip-b0_tiny-imagenet.py.
#   python tools/train.py configs/lathadapter/lathadapter_coop_lite-clip-b0_tiny-imagenet.py
# Result: not trained (docs/tables/lathadapter_lite.md has a study of 40 of its classes)
#   python tools/test.py configs/lathadapter/lathadapter_coop_lite-clip-b0_tiny-imagenet.py CHECKPOINT
# Data: as there.
_base_ = 'coop_lite-clip-b0_tiny-imagenet.py'
model = dict(
    head=dict(type='hyper_mm.LatHAdapterHead', num_classes=160, embed_dims=1280, tau=1 / 30)
)
