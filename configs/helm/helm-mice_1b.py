# HELM-MiCE, 1 B parameters: latent attention, eight experts of curvatures of their own.
#   python tools/train.py configs/helm/helm-mice_1b.py (one GPU: a quarter of the batch)
# Result: not trained
#   bash tools/dist_train.sh configs/helm/helm-mice_1b.py 4
# Data: see _base_/datasets/wikipedia_tokens.py; 128,256 ids (Llama 3). the release trains this size
# with one constant curvature.
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
        type='hyper_mm.HelmDecoder',
        vocab_size=128256,
        dims=909,
        depth=16,
        attention=dict(
            type='HMLA', num_heads=14, latent_dims=257, nope_dims=65, rope_dims=64, v_dims=64
        ),
        ffn=dict(type='MiCE', hidden_dims=1819, num_experts=8, top_k=2),
        dense_ffn=dict(type='LorentzSwiGLU', hidden_dims=3639),
        num_dense_layers=1,
        residual_scale=910**0.5,
        max_length=2048,
    ),
)
