# HyperCLIP's adapter as the only trained part; compare with radial_clip-l14_hierarcaps.py.
#   python tools/train.py configs/radial/radial-adapter_clip-l14_hierarcaps.py
# Result: not trained
# Data: configs/_base_/datasets/hierarcaps.py. The rate is ours, as for b32.
_base_ = 'radial_clip-l14_hierarcaps.py'
model = dict(
    adapter=dict(type='hyper_mm.HyperCLIPAdapter', block_size=64, towers=('text',), curvature=0.01)
)
optim_wrapper = dict(optimizer=dict(lr=1e-5, weight_decay=0.0))
