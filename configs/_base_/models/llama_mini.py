# LLaMA-like language model of 3 M parameters, the baseline of helm-d_mini.py.
model = dict(
    type='hyper_mm.HelmForCausalLM',
    loss_chunk=1024,  # all logits at once
    decoder=dict(
        type='hyper_mm.EuclideanDecoder',
        embed_dims=128,
        depth=4,
        attention=dict(type='RotaryAttention', num_heads=4),
        ffn=dict(type='SwiGLU', hidden_dims=560),
        max_length=128,
    ),
)
