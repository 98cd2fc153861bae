# HELM-MiCE in miniature with one constant curvature, as the released 1B script trains it.
#   python tools/train.py configs/helm-mice-constant_mini_hierarcaps.py
# Data: see helm-mice_mini_hierarcaps.py; it differs in nothing else.
_base_ = 'helm-mice_mini_hierarcaps.py'
model = dict(decoder=dict(ffn=dict(curvatures=(1.0, 1.0), learn_curvature=False)))
