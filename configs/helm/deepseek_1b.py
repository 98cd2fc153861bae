# DeepSeek-like Euclidean baseline of HELM-MiCE, 1 B parameters.
#   python tools/train.py configs/helm/deepseek_1b.py (one GPU: a quarter of the batch)
# Result: not trained
#   bash tools/dist_train.sh configs/helm/deepseek_1b.py 4
# Data: see _base_/datasets/wikipedia_tokens.py; 128,256 ids (Llama 3).
_base_ = './llama_1b.py'
model = dict(
    decoder=dict(
        embed_dims=910,
        attention=dict(
            type='MLA', num_heads=14, latent_dims=257, nope_dims=65, rope_dims=64, v_dims=64
        ),
        ffn=dict(type='MoE', hidden_dims=1820, num_experts=8, top_k=2),
        dense_ffn=dict(type='SwiGLU', hidden_dims=3640),
        num_dense_layers=1,
    )
)
