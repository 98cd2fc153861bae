# Radial embeddings on the hyperboloid; compare with radial_clip-mini_hierarcaps.py.
#   python tools/train.py configs/radial/radial-lorentz_clip-mini_hierarcaps.py
# Result: tau_d 0.894 ± 0.035, HyperLex rho 0.074 ± 0.041, seeds 0 1 2 (docs/tables/radial.md)
# Data: as there.
_base_ = 'radial_clip-mini_hierarcaps.py'
model = dict(loss=dict(geometry='lorentz'))
