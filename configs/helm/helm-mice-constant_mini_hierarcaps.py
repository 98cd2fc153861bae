# HELM-MiCE in miniature with one constant curvature, as the 1B script of the official code trains it.
#   python tools/train.py configs/helm/helm-mice-constant_mini_hierarcaps.py
# Result: perplexity 20.8 ± 0.1, 400 steps at 4e-3, seeds 0 1 2 (docs/tables/helm_hierarcaps.md)
# Data: see helm-mice_mini_hierarcaps.py; it differs in nothing else.
_base_ = 'helm-mice_mini_hierarcaps.py'
model = dict(decoder=dict(ffn=dict(curvatures=(1.0, 1.0), learn_curvature=False)))
