# HELM-D of nearly as many parameters as llama_mini.py.
_base_ = './llama_mini.py'
model = dict(
    decoder=dict(
        type='hyper_mm.HelmDecoder',
        embed_dims=131,
        attention=dict(type='LorentzAttention'),
        ffn=dict(type='LorentzSwiGLU', hidden_dims=511),
    )
)
