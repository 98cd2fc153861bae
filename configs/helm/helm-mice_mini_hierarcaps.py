# HELM-MiCE in miniature: latent attention, experts of curvatures of their own.
#   python tools/train.py configs/helm/helm-mice_mini_hierarcaps.py
# Result: perplexity 42.9 ± 0.7, seeds 0 1 2 (docs/tables/helm_hierarcaps.md)
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
        dims=127,
        depth=4,
        attention=dict(
            type='HMLA', num_heads=4, latent_dims=32, nope_dims=16, rope_dims=16, v_dims=31
        ),
        ffn=dict(type='MiCE', hidden_dims=127, num_experts=4, top_k=2),
        dense_ffn=dict(type='LorentzSwiGLU', hidden_dims=511),
        num_dense_layers=1,
        residual_scale=128**0.5,
        max_length=128,
    ),
)
