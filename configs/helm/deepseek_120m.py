# DeepSeek-like Euclidean baseline of HELM-MiCE: latent attention, mixture of experts.
#   python tools/train.py configs/helm/deepseek_120m.py (one GPU: a quarter of the batch)
# Result: not trained
#   bash tools/dist_train.sh configs/helm/deepseek_120m.py 4
# Data: see _base_/datasets/wikipedia_tokens.py; 128,256 ids (Llama 3). The paper's benchmark scores
# are near chance for all models of this size.
_base_ = './llama_115m.py'
model = dict(
    decoder=dict(
        embed_dims=390,
        attention=dict(
            type='MLA', num_heads=6, latent_dims=65, nope_dims=33, rope_dims=16, v_dims=32
        ),
        ffn=dict(type='MoE', hidden_dims=780, num_experts=4, top_k=2),
        dense_ffn=dict(type='SwiGLU', hidden_dims=1560),
        num_dense_layers=1,
    )
)
