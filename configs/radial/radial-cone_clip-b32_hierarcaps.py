# Entailment cones in place of radial embeddings; compare with radial_clip-b32_hierarcaps.py.
#   python tools/train.py configs/radial/radial-cone_clip-b32_hierarcaps.py
# Result: not trained
# Data: configs/_base_/datasets/hierarcaps.py.
_base_ = 'radial_clip-b32_hierarcaps.py'
model = dict(loss=dict(_delete_=True, type='hyper_mm.EntailmentConeLoss', lambda_reg=10.0))
