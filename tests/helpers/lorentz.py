"""Layers of HELM with the weights of golden files."""

from __future__ import annotations

import torch
from torch import Tensor

from hyper_mm.layers.lorentz.attention import LorentzAttention
from hyper_mm.layers.lorentz.ffn import LorentzSwiGLU

from .golden import Golden, absolute, of_max


def check(
    g: Golden, dtype: torch.dtype, y: Tensor, name: str, cot: str, leaves: dict[str, Tensor]
) -> None:
    """Compares a value and the gradients of its product with the cotangent."""
    value, grad = (3e-6, 9e-6) if dtype == torch.float32 else (1e-9, 1e-9)
    assert absolute(y, g.exact(name)) < value * max(1, g.exact(name).abs().max().item())
    grads = torch.autograd.grad((y * g[cot]).sum(), list(leaves.values()))
    for key, result in zip(leaves, grads):
        assert of_max(result, g.exact(key)) < grad, key


def gradients(g: Golden, dtype: torch.dtype, y: Tensor, leaves: dict[str, Tensor]) -> None:
    """Compares the gradients of the product of a value with the cotangent."""
    grads = torch.autograd.grad((y * g['cot']).sum(), list(leaves.values()))
    for (key, _), result in zip(leaves.items(), grads):
        single = 24e-6 if key.endswith('tau') else 9e-6
        limit = single if dtype == torch.float32 else 1e-9
        assert of_max(result, g.exact(key)) < limit, key


def attention_of(g: Golden, dtype: torch.dtype, **options: bool) -> LorentzAttention:
    """The attention of a file of layers."""
    layer = LorentzAttention(g['x'].shape[-1], int(g['num_heads']), **options).to(dtype)
    state = {'tau': g['attn.tau']}
    for n in 'qkvo':
        state |= {f'w{n}.weight': g[f'attn.W{n}'], f'w{n}.bias': g[f'attn.b{n}']}
    layer.load_state_dict(state)
    return layer


def ffn_of(g: Golden, dtype: torch.dtype) -> LorentzSwiGLU:
    """The feed-forward network of a file of layers."""
    layer = LorentzSwiGLU(g['x'].shape[-1], len(g['ffn.b1'])).to(dtype)
    state = {f'w{n}.weight': g[f'ffn.W{n}'] for n in '123'}
    layer.load_state_dict(state | {f'w{n}.bias': g[f'ffn.b{n}'] for n in '123'})
    return layer
