"""Latent attention and its cached decoding."""

import pytest
import torch

from hyper_mm.layers.lorentz.attention import HMLA
from hyper_mm.layers.lorentz.cache import TokenCache

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute, of_max

FILES = golden_files('helm_hmla*.npz')
both = pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
files = pytest.mark.parametrize('file', FILES)


def hmla_of(g, dtype, case):
    layer = HMLA(
        dims=g['x'].shape[-1],
        num_heads=int(g['num_heads']),
        latent_dims=int(g['kv_rank']),
        nope_dims=int(g['nope_dim']),
        rope_dims=int(g['rope_dim']) - 1,
        v_dims=int(g['v_dim']) - 1,
        q_latent_dims=int(g['q_rank']) if case == 'qlora' else 0,
        causal=case != 'full',
    ).to(dtype)
    names = {'wkv_a': 'kva', 'wkv_b': 'kvb', 'wo': 'o', 'wq': 'q'}
    state = {'tau': g['tau'], 'kv_norm.weight': g['gamma_kv']}
    if case == 'qlora':
        names |= {'wq_a': 'qa', 'wq': 'qb'}
        state['q_norm.weight'] = g['gamma_q']
    for ours, theirs in names.items():
        state |= {f'{ours}.weight': g[f'W{theirs}'], f'{ours}.bias': g[f'b{theirs}']}
    layer.load_state_dict(state)
    leaves = {'tau': layer.tau, 'gamma_kv': layer.kv_norm.weight}
    if case == 'qlora':
        leaves = {'gamma_q': layer.q_norm.weight}
        leaves |= {'Wqa': layer.wq_a.weight, 'Wqb': layer.wq.weight}
    else:
        for ours, theirs in names.items():
            part = getattr(layer, ours)
            leaves |= {f'W{theirs}': part.weight, f'b{theirs}': part.bias}
    return layer, leaves


@files
@both
@pytest.mark.parametrize('case', ['causal', 'full', 'qlora'])
def test_golden_hmla(file, dtype, case):
    g = Golden(file, dtype)
    layer, leaves = hmla_of(g, dtype, case)
    leaves |= {'x': g['x'].requires_grad_(), 'c': g['c'].requires_grad_()}
    y = layer(leaves['x'], leaves['c'])
    double = dtype == torch.float64
    assert absolute(y, g.exact(f'{case}.y')) < (1e-9 if double else 3e-5)
    grads = torch.autograd.grad((y * g['cot']).sum(), list(leaves.values()))
    for key, grad in zip(leaves, grads):
        limit = 1e-9 if double else 6e-5 if key in ('c', 'tau') else 15e-6
        assert of_max(grad, g.exact(f'{case}.grad_{key}')) < limit, key


@files
@both
def test_golden_cached_decoding(file, dtype):
    g = Golden(file, dtype)
    layer, _ = hmla_of(g, dtype, 'causal')
    cache, limit = TokenCache(), 1e-9 if dtype == torch.float64 else 3e-5
    with torch.no_grad():
        y = torch.cat([layer(part, g['c'], cache) for part in g['x'].split(1, 1)], 1)
        raw = layer.wkv_a(g['x'], g['c'])[..., : layer.latent_dims]
        rows = cache.append(g['x'][:, :0, : cache.numbers_per_token])
    assert absolute(y, g.exact('decode_y')) < limit
    assert cache.numbers_per_token == int(g['kv_rank'] + g['rope_dim'] - 1)
    assert absolute(raw, g.exact('cache_latent_raw')) < limit
    assert absolute(rows[..., : layer.latent_dims], g.exact('cache_latent_norm')) < limit
    assert absolute(rows[..., layer.latent_dims :], g.exact('cache_kpe')) < limit


def test_bfloat16_autocast_has_finite_gradients():
    layer, x = HMLA(20, 2, 9, 5, 4, 6), (20 * torch.randn(1, 9, 20)).requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        layer(x, 1.0).float().sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    'wrong', [{'rope_dims': 3}, {'num_heads': 0}, {'v_dims': 0}, {'latent_dims': -4}]
)
def test_bad_input(wrong):
    good = dict(dims=20, num_heads=2, latent_dims=9, nope_dims=5, rope_dims=4, v_dims=6)
    with pytest.raises(ValueError, match=f'{next(iter(wrong))}.* must be'):
        HMLA(**{**good, **wrong})
