# HELM-MiCE, 120 M parameters: latent attention, experts of curvatures of their own.
#   python tools/train.py configs/helm/helm-mice_120m.py (one GPU: a quarter of the batch)
# Result: not trained
#   bash tools/dist_train.sh configs/helm/helm-mice_120m.py 4
# Data: see _base_/datasets/wikipedia_tokens.py; 128,256 ids (Llama 3). The paper's benchmark scores
# are near chance for all models of this size.
_base_ = './deepseek_120m.py'
model = dict(
    decoder=dict(
        type='hyper_mm.HelmDecoder',
        embed_dims=389,
        attention=dict(type='HMLA'),
        ffn=dict(type='MiCE', hidden_dims=779),
        dense_ffn=dict(type='LorentzSwiGLU', hidden_dims=1559),
        residual_scale=390**0.5,
    )
)
