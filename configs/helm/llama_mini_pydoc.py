# LLaMA-like baseline of HELM-D in miniature, on the documentation of Python.
#   python tools/train.py configs/helm/llama_mini_pydoc.py
# Result: perplexity 255.5 ± 4.7 after 300 steps at 2e-3, seeds 0 1 2 (docs/tables/helm_pydoc.md)
# Data: see _base_/datasets/pydoc_tokens.py; the model is that of llama_mini_hierarcaps.py.
_base_ = [
    '../_base_/models/llama_mini.py',
    '../_base_/datasets/pydoc_tokens.py',
    '../_base_/schedules/helm_mini.py',
    '../_base_/default_runtime_language.py',
]
model = dict(decoder=dict(vocab_size={{_base_.vocab_size}}))
