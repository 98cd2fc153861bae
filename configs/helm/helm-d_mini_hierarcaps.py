# HELM-D in miniature, on the text of caption hierarchies.
#   python tools/train.py configs/helm/helm-d_mini_hierarcaps.py
# Result: perplexity 40.9 ± 2.1, seeds 0 1 2 (docs/tables/helm_hierarcaps.md)
# Data: see _base_/datasets/hierarcaps_tokens.py. Equal tokens and nearly equal parameters in all
# arms (docs/helm.md).
_base_ = [
    '../_base_/datasets/hierarcaps_tokens.py',
    '../_base_/schedules/helm_mini.py',
    '../_base_/default_runtime_language.py',
]
model = dict(
    type='hyper_mm.HelmForCausalLM',
    loss_chunk=1024,  # all logits at once
    decoder=dict(
        type='hyper_mm.HelmDecoder',
        vocab_size={{_base_.vocab_size}},
        dims=131,
        depth=4,
        attention=dict(type='LorentzAttention', num_heads=4),
        ffn=dict(type='LorentzSwiGLU', hidden_dims=511),
        max_length=128,
    ),
)
