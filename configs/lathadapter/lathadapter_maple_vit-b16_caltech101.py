# LatHAdapter on MaPLe on Caltech101; its baseline is maple_vit-b16_caltech101.py.
#   python tools/train.py configs/lathadapter/lathadapter_maple_vit-b16_caltech101.py
# Result: not trained (paper: 1.12 above MaPLe in the harmonic mean over eleven sets)
#   python tools/test.py configs/lathadapter/lathadapter_maple_vit-b16_caltech101.py CHECKPOINT
# Training has 16 shots of the base classes and ends with their accuracy; the test is of the new
# ones. Data: data/caltech-101 with CoOp's split file (another set: HYPER_MM_SET=dtd before the
# command); see docs/lathadapter.md.
_base_ = 'maple_vit-b16_caltech101.py'
# the number of attributes comes from that of the base classes of the set (20 for ImageNet, as in
# the paper); the paper has 24 for SUN397: head=dict(num_attributes=24)
model = dict(
    head=dict(
        type='hyper_mm.LatHAdapterHead', num_classes={{_base_.num_base_classes}}, embed_dims=512
    )
)
