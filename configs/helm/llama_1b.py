# LLaMA-like Euclidean baseline of HELM-D, 1 B parameters.
#   python tools/train.py configs/helm/llama_1b.py (one GPU: a quarter of the batch)
# Result: not trained
#   bash tools/dist_train.sh configs/helm/llama_1b.py 4
# Data: see _base_/datasets/wikipedia_tokens.py; 128,256 ids (Llama 3).
_base_ = [
    '../_base_/datasets/wikipedia_tokens.py',
    '../_base_/schedules/helm_5b_1b.py',
    '../_base_/default_runtime_language.py',
]
train_dataloader = dict(batch_size=1)
val_dataloader = dict(batch_size=1)
test_dataloader = dict(batch_size=1)
model = dict(
    type='hyper_mm.HelmForCausalLM',
    decoder=dict(
        type='hyper_mm.EuclideanDecoder',
        vocab_size=128256,
        embed_dims=1536,
        depth=16,
        attention=dict(type='RotaryAttention', num_heads=24),
        ffn=dict(type='SwiGLU', hidden_dims=6240),
        max_length=2048,
    ),
)
