# Entailment cones in the small random text tower: the twin of radial_clip-mini_hierarcaps.py.
#   python tools/train.py configs/radial/radial-cone_clip-mini_hierarcaps.py
# Data: as there. Expected: docs/tables/radial.md.
_base_ = 'radial_clip-mini_hierarcaps.py'
model = dict(loss=dict(_delete_=True, type='hyper_mm.EntailmentConeLoss', lambda_reg=0.0))
