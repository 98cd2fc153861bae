# HELM-D in miniature, on the text of caption hierarchies.
#   python tools/train.py configs/helm/helm-d_mini_hierarcaps.py
# Result: perplexity 29.4 ± 2.1, 200 steps at 4e-3, seeds 0 1 2 (docs/tables/helm_hierarcaps.md)
# Data: see _base_/datasets/hierarcaps_tokens.py. Equal tokens and nearly equal parameters in all
# arms (docs/helm.md).
_base_ = './llama_mini_hierarcaps.py'
model = dict(
    decoder=dict(
        type='hyper_mm.HelmDecoder',
        embed_dims=131,
        attention=dict(type='LorentzAttention'),
        ffn=dict(type='LorentzSwiGLU', hidden_dims=511),
    )
)
