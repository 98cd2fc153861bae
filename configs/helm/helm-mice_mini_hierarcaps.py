# HELM-MiCE in miniature: latent attention, experts of curvatures of their own.
#   python tools/train.py configs/helm/helm-mice_mini_hierarcaps.py
# Result: perplexity 33.4 ± 0.5, 200 steps at 4e-3, seeds 0 1 2 (docs/tables/helm_hierarcaps.md)
# Data: see _base_/datasets/hierarcaps_tokens.py. Equal tokens and nearly equal parameters in all
# arms (docs/helm.md).
_base_ = './deepseek_mini_hierarcaps.py'
model = dict(
    decoder=dict(
        type='hyper_mm.HelmDecoder',
        embed_dims=127,
        attention=dict(type='HMLA', v_dims=31),
        ffn=dict(type='MiCE', hidden_dims=127),
        dense_ffn=dict(type='LorentzSwiGLU', hidden_dims=511),
        residual_scale=128**0.5,
    )
)
