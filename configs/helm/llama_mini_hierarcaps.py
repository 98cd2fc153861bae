# LLaMA-like baseline of HELM-D in miniature.
#   python tools/train.py configs/helm/llama_mini_hierarcaps.py
# Result: perplexity 23.4 ± 0.6, 400 steps at 2e-3, seeds 0 1 2 (docs/tables/helm_hierarcaps.md)
# Data: see _base_/datasets/hierarcaps_tokens.py. Equal tokens and nearly equal parameters in all
# arms (docs/helm.md).
_base_ = [
    '../_base_/models/llama_mini.py',
    '../_base_/datasets/hierarcaps_tokens.py',
    '../_base_/schedules/helm_mini.py',
    '../_base_/default_runtime_language.py',
]
model = dict(decoder=dict(vocab_size={{_base_.vocab_size}}))
