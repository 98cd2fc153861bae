# LLaMA-like Euclidean baseline of HELM-D: heads of 64 dimensions, as there without time.
#   python tools/train.py configs/helm/llama_115m.py (one GPU: a quarter of the batch)
# Result: not trained
#   bash tools/dist_train.sh configs/helm/llama_115m.py 4
# Data: see _base_/datasets/wikipedia_tokens.py; 128,256 ids (Llama 3). The paper's benchmark scores
# are near chance for all models of this size.
_base_ = [
    '../_base_/datasets/wikipedia_tokens.py',
    '../_base_/schedules/helm_5b.py',
    '../_base_/default_runtime_language.py',
]
model = dict(
    type='hyper_mm.HelmForCausalLM',
    decoder=dict(
        type='hyper_mm.EuclideanDecoder',
        vocab_size=128256,
        embed_dims=384,
        depth=6,
        attention=dict(type='RotaryAttention', num_heads=6),
        ffn=dict(type='SwiGLU', hidden_dims=1560),
        max_length=2048,
    ),
)
