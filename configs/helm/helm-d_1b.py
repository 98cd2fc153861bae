# HELM-D, 1 B parameters: a shape of our own (heads as at 115 M); the paper has none.
#   python tools/train.py configs/helm/helm-d_1b.py (one GPU: a quarter of the batch)
# Result: not trained
#   bash tools/dist_train.sh configs/helm/helm-d_1b.py 4
# Data: see _base_/datasets/wikipedia_tokens.py; 128,256 ids (Llama 3).
_base_ = './llama_1b.py'
model = dict(
    decoder=dict(
        type='hyper_mm.HelmDecoder',
        embed_dims=1559,
        attention=dict(type='LorentzAttention'),
        ffn=dict(type='LorentzSwiGLU', hidden_dims=6239),
    )
)
