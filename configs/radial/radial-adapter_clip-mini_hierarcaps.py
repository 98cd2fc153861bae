# HyperCLIP's adapter as the only trained part: the twin of radial_clip-mini_hierarcaps.py.
#   python tools/train.py configs/radial/radial-adapter_clip-mini_hierarcaps.py
# Data: as there. Expected: docs/tables/radial.md.
_base_ = 'radial_clip-mini_hierarcaps.py'
model = dict(
    adapter=dict(type='hyper_mm.HyperCLIPAdapter', block_size=64, towers=('text',), curvature=0.01)
)
