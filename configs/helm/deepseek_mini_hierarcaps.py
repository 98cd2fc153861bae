# DeepSeek-like baseline of HELM-MiCE in miniature.
#   python tools/train.py configs/helm/deepseek_mini_hierarcaps.py
# Result: perplexity 24.4 ± 0.3, seeds 0 1 2 (docs/tables/helm_hierarcaps.md)
# Data: see _base_/datasets/hierarcaps_tokens.py. Equal tokens and nearly equal parameters in all
# arms (docs/helm.md).
_base_ = './llama_mini_hierarcaps.py'
model = dict(
    decoder=dict(
        embed_dims=128,
        attention=dict(
            type='MLA', num_heads=4, latent_dims=32, nope_dims=16, rope_dims=16, v_dims=32
        ),
        ffn=dict(type='MoE', hidden_dims=128, num_experts=4, top_k=2),
        dense_ffn=dict(type='SwiGLU', hidden_dims=512),
        num_dense_layers=1,
    )
)
