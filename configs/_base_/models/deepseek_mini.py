# DeepSeek-like language model of nearly as many parameters, the baseline of helm-mice_mini.py.
_base_ = './llama_mini.py'
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
