"""Small language models of all kinds."""

from __future__ import annotations

import copy

from torch import nn

from hyper_mm.registry import MODELS

LATENT = dict(num_heads=2, latent_dims=5, nope_dims=3, rope_dims=4, v_dims=3)
HELM = dict(type='hyper_mm.HelmDecoder', vocab_size=37, embed_dims=17, depth=2, max_length=80)
BASELINE = dict(
    type='hyper_mm.EuclideanDecoder', vocab_size=37, embed_dims=18, depth=2, max_length=80
)
DECODERS = {
    'helm-d': dict(
        HELM,
        attention=dict(type='LorentzAttention', num_heads=2),
        ffn=dict(type='LorentzSwiGLU', hidden_dims=15),
    ),
    'helm-mice': dict(
        HELM,
        attention=dict(type='HMLA', **LATENT),
        ffn=dict(type='MiCE', hidden_dims=7),
        dense_ffn=dict(type='LorentzSwiGLU', hidden_dims=15),
        num_dense_layers=1,
    ),
    'baseline-d': dict(
        BASELINE,
        embed_dims=16,
        attention=dict(type='RotaryAttention', num_heads=2),
        ffn=dict(type='SwiGLU', hidden_dims=15),
    ),
    'baseline-moe': dict(
        BASELINE,
        attention=dict(type='MLA', **LATENT),
        ffn=dict(type='MoE', hidden_dims=7),
        dense_ffn=dict(type='SwiGLU', hidden_dims=15),
        num_dense_layers=1,
    ),
}


def model_of(kind: str, **options) -> nn.Module:
    """A model with the decoder ``kind`` of ``DECODERS``."""
    cfg = dict(type='hyper_mm.HelmForCausalLM', decoder=copy.deepcopy(DECODERS[kind]), **options)
    return MODELS.build(cfg)
