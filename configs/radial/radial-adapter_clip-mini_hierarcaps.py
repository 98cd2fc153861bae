# HyperCLIP's adapter as the only trained part; compare with radial_clip-mini_hierarcaps.py.
#   python tools/train.py configs/radial/radial-adapter_clip-mini_hierarcaps.py
# Result: tau_d 0.884 ± 0.009, HyperLex rho 0.034 ± 0.014, seeds 0 1 2 (docs/tables/radial.md)
# Data: as there.
_base_ = 'radial_clip-mini_hierarcaps.py'
model = dict(
    adapter=dict(type='hyper_mm.HyperCLIPAdapter', block_size=64, towers=('text',), curvature=0.01)
)
