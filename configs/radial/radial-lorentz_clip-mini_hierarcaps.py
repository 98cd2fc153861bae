# Radial embeddings on the hyperboloid: the twin of radial_clip-mini_hierarcaps.py.
#   python tools/train.py configs/radial/radial-lorentz_clip-mini_hierarcaps.py
# Data: as there. Expected: docs/tables/radial.md.
_base_ = 'radial_clip-mini_hierarcaps.py'
model = dict(loss=dict(geometry='lorentz'))
