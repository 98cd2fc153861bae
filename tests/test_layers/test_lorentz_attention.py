"""Lorentz attention and feed-forward network."""

import pytest
import torch

from hyper_mm.layers.lorentz_attention import LorentzAttention
from hyper_mm.layers.lorentz_ffn import LorentzSwiGLU

from ..conftest import golden_files
from ..golden import Golden, absolute, of_max

FILES = golden_files('helm_layers*.npz')
both = pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
files = pytest.mark.parametrize('file', FILES)


def gradients(g, dtype, y, leaves):
    grads = torch.autograd.grad((y * g['cot']).sum(), list(leaves.values()))
    for (key, _), result in zip(leaves.items(), grads):
        single = 24e-6 if key.endswith('tau') else 9e-6
        limit = single if dtype == torch.float32 else 1e-9
        assert of_max(result, g.exact(key)) < limit, key


@files
@both
@pytest.mark.parametrize('case', ['full_norope', 'full', 'causal'])
def test_golden_attention(file, dtype, case):
    g = Golden(file, dtype)
    options = {'causal': case == 'causal', 'rotary': case != 'full_norope'}
    layer = LorentzAttention(g['x'].shape[-1], int(g['num_heads']), **options).to(dtype)
    state = {'tau': g['attn.tau']}
    for n in 'qkvo':
        state |= {f'w{n}.weight': g[f'attn.W{n}'], f'w{n}.bias': g[f'attn.b{n}']}
    layer.load_state_dict(state)
    x, c = g['x'].requires_grad_(), g['c'].requires_grad_()
    y = layer(x, c)
    double = dtype == torch.float64
    heads = absolute(layer.heads(x, c), g.exact(f'attn.{case}.heads'))
    assert heads < (1e-9 if double else 6e-6)
    assert absolute(y, g.exact(f'attn.{case}.y')) < (1e-9 if double else 18e-6)
    if case != 'full_norope':
        leaves = {'x': x, 'c': c, 'tau': layer.tau}
        for n in 'qvo':
            w = getattr(layer, f'w{n}')
            leaves |= {f'W{n}': w.weight, f'b{n}': w.bias}
        leaves['Wk'], leaves['bk'] = layer.wk.weight, layer.wk.bias
        gradients(g, dtype, y, {f'attn.{case}.grad_{k}': v for k, v in leaves.items()})


@files
@both
def test_golden_ffn(file, dtype):
    g = Golden(file, dtype)
    layer = LorentzSwiGLU(g['x'].shape[-1], len(g['ffn.b1'])).to(dtype)
    state = {f'w{n}.weight': g[f'ffn.W{n}'] for n in '123'}
    layer.load_state_dict(state | {f'w{n}.bias': g[f'ffn.b{n}'] for n in '123'})
    x, c = g['x'].requires_grad_(), g['c'].requires_grad_()
    y = layer(x, c)
    assert absolute(y, g.exact('ffn.y')) < (1e-9 if dtype == torch.float64 else 9e-6)
    leaves = {'x': x, 'c': c}
    for n in '123':
        w = getattr(layer, f'w{n}')
        leaves |= {f'W{n}': w.weight, f'b{n}': w.bias}
    gradients(g, dtype, y, {f'ffn.grad_{k}': v for k, v in leaves.items()})


@pytest.mark.parametrize('args', [(20, 4), (20, 0), (20, 21), (17, 3, True, True)])
def test_bad_input(args):
    with pytest.raises(ValueError, match='must be'):
        LorentzAttention(*args)


def test_bfloat16_autocast_has_finite_gradients():
    layer = LorentzAttention(20, 3)
    x = (20 * torch.randn(1, 9, 20)).requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        layer(x, 1.0).float().sum().backward()
    assert x.grad.isfinite().all()
