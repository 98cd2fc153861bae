# HELM-MiCE in miniature with one constant curvature, as the released 1B script trains it.
#   python tools/train.py configs/helm/helm-mice-constant_mini_hierarcaps.py
# Result: perplexity 42.8 ± 1.8, init_std=None, seeds 0 1 2 (docs/tables/helm_hierarcaps.md)
# Data: see helm-mice_mini_hierarcaps.py; it differs in nothing else.
_base_ = 'helm-mice_mini_hierarcaps.py'
model = dict(decoder=dict(ffn=dict(curvatures=(1.0, 1.0), learn_curvature=False)))
