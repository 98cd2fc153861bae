# HELM-MiCE, 1 B parameters: latent attention, eight experts of curvatures of their own.
#   python tools/train.py configs/helm/helm-mice_1b.py (one GPU: a quarter of the batch)
# Result: not trained
#   bash tools/dist_train.sh configs/helm/helm-mice_1b.py 4
# Data: see _base_/datasets/wikipedia_tokens.py; 128,256 ids (Llama 3). The official code trains
# this size with one constant curvature.
_base_ = './deepseek_1b.py'
model = dict(
    decoder=dict(
        type='hyper_mm.HelmDecoder',
        embed_dims=909,
        attention=dict(type='HMLA'),
        ffn=dict(type='MiCE', hidden_dims=1819),
        dense_ffn=dict(type='LorentzSwiGLU', hidden_dims=3639),
        residual_scale=910**0.5,
    )
)
