# DeepSeek-like baseline of HELM-MiCE in miniature.
#   python tools/train.py configs/helm/deepseek_mini_hierarcaps.py
# Result: perplexity 22.1 ± 0.2, 400 steps at 4e-3, seeds 0 1 2 (docs/tables/helm_hierarcaps.md)
# Data: see _base_/datasets/hierarcaps_tokens.py. Equal tokens and nearly equal parameters in all
# arms (docs/helm.md).
_base_ = [
    '../_base_/models/deepseek_mini.py',
    '../_base_/datasets/hierarcaps_tokens.py',
    '../_base_/schedules/helm_mini.py',
    '../_base_/default_runtime_language.py',
]
model = dict(decoder=dict(vocab_size={{_base_.vocab_size}}))
