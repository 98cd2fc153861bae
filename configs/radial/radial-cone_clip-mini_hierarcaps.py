# Entailment cones in the small random text tower; compare with radial_clip-mini_hierarcaps.py.
#   python tools/train.py configs/radial/radial-cone_clip-mini_hierarcaps.py
# Result: tau_d 0.947 ± 0.002, HyperLex rho 0.163 ± 0.017, seeds 0 1 2 (docs/tables/radial.md)
# Data: as there.
_base_ = 'radial_clip-mini_hierarcaps.py'
model = dict(loss=dict(_delete_=True, type='hyper_mm.EntailmentConeLoss', lambda_reg=0.0))
