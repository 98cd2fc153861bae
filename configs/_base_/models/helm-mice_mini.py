# HELM-MiCE of nearly as many parameters as deepseek_mini.py.
_base_ = './deepseek_mini.py'
model = dict(
    decoder=dict(
        type='hyper_mm.HelmDecoder',
        embed_dims=127,
        attention=dict(type='HMLA', v_dims=31),
        ffn=dict(type='MiCE', hidden_dims=127),
        dense_ffn=dict(type='LorentzSwiGLU', hidden_dims=511),
        residual_scale=128**0.5,
    )
)
