# DeepSeek-like baseline of HELM-MiCE in miniature, on the documentation of Python.
#   python tools/train.py configs/helm/deepseek_mini_pydoc.py
# Result: not trained
# Data: see _base_/datasets/pydoc_tokens.py; the model is that of deepseek_mini_hierarcaps.py.
_base_ = [
    '../_base_/models/deepseek_mini.py',
    '../_base_/datasets/pydoc_tokens.py',
    '../_base_/schedules/helm_mini.py',
    '../_base_/default_runtime_language.py',
]
model = dict(decoder=dict(vocab_size={{_base_.vocab_size}}))
