# HELM-D, 115 M parameters: dense, fully hyperbolic.
#   python tools/train.py configs/helm/helm-d_115m.py (one GPU: a quarter of the batch)
# Result: not trained
#   bash tools/dist_train.sh configs/helm/helm-d_115m.py 4
# Data: see _base_/datasets/wikipedia_tokens.py; 128,256 ids (Llama 3). The paper's benchmark scores
# are near chance for all models of this size.
_base_ = './llama_115m.py'
model = dict(
    decoder=dict(
        type='hyper_mm.HelmDecoder',
        embed_dims=389,
        attention=dict(type='LorentzAttention'),
        ffn=dict(type='LorentzSwiGLU', hidden_dims=1559),
    )
)
