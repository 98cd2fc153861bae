"""Lorentz attention and latent attention, and their cached decoding."""

import copy

import pytest
import torch

from hyper_mm.layers.lorentz.attention import HMLA, LorentzAttention, attend
from hyper_mm.layers.lorentz.cache import TokenCache
from hyper_mm.ops import lorentz

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute, of_max, rounding
from ...helpers.lorentz import attention_of, gradients

FILES = golden_files('helm_layers*.npz')
LATENT_FILES = golden_files('helm_hmla*.npz')
both = pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
files = pytest.mark.parametrize('file', FILES)
latent_files = pytest.mark.parametrize('file', LATENT_FILES)


def explicit(q, k, v, c, tau, causal, bias=0.0):
    """The formulas of the paper, nothing rewritten: probabilities and heads of (B, H, N, d)."""
    lift = [torch.cat([lorentz.time(t, c, keepdim=True), t], -1) for t in (q, k, v)]
    q, k, v = lift
    inner = (q[..., 1:] @ k[..., 1:].mT) - q[..., :1] @ k[..., :1].mT
    scores = (2 / c + 2 * inner) / tau + bias
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
    probs = scores.softmax(-1)
    u = probs @ v
    norm = c * (u[..., :1].square() - u[..., 1:].square().sum(-1, keepdim=True))
    return probs, u[..., 1:] / norm.sqrt()


@files
@both
@pytest.mark.parametrize('case', ['full_norope', 'full', 'causal'])
def test_golden_attention(file, dtype, case):
    g = Golden(file, dtype)
    layer = attention_of(g, dtype, causal=case == 'causal', rotary=case != 'full_norope')
    x, c = g['x'].requires_grad_(), g['c'].requires_grad_()
    y = layer(x, c)
    double = dtype == torch.float64
    heads = absolute(layer.heads(x, c), g.exact(f'attn.{case}.heads'))
    assert heads < (1e-9 if double else 6e-6)
    assert absolute(y, g.exact(f'attn.{case}.y')) < (1e-9 if double else 18e-6)
    if case != 'full_norope':
        leaves = {'x': x, 'c': c, 'tau': layer.tau}
        for n in 'qkvo':
            w = getattr(layer, f'w{n}')
            leaves |= {f'W{n}': w.weight, f'b{n}': w.bias}
        gradients(g, dtype, y, {f'attn.{case}.grad_{k}': v for k, v in leaves.items()})


@files
@pytest.mark.parametrize('case', ['full_norope', 'full', 'causal'])
def test_golden_probabilities_of_the_explicit_form(file, case):
    g = Golden(file)
    layer = attention_of(g, torch.float64, causal=case == 'causal', rotary=case != 'full_norope')
    x, c, bias = g['x'], g['c'], g['attn.bias'].requires_grad_()
    shape = (layer.num_heads, layer.head_dims)
    q, k, v = (w(x, c).unflatten(-1, shape) for w in (layer.wq, layer.wk, layer.wv))
    q, k = (q, k) if layer.rope is None else (layer.rope(q), layer.rope(k))
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    probs, heads = explicit(q, k, v, c, layer.tau, layer.causal, bias)
    assert absolute(probs, g[f'attn.{case}.probs']) < 1e-12
    # the attention that the layer uses is the one with these probabilities, and no bias
    assert absolute(attend(q, k, v, c, layer.tau, layer.causal), heads) < 1e-12
    if case != 'full_norope':
        (grad,) = torch.autograd.grad((layer.wo(heads.transpose(1, 2), c) * g['cot']).sum(), bias)
        assert absolute(grad, g[f'attn.{case}.grad_bias']) < 1e-6


@pytest.mark.parametrize('args', [(20, 4), (20, 0), (20, 21), (17, 3, True, True)])
def test_bad_attention(args):
    with pytest.raises(ValueError, match='must be'):
        LorentzAttention(*args)


def test_bfloat16_attention_has_finite_gradients():
    layer = LorentzAttention(20, 3)
    x = (20 * torch.randn(1, 9, 20)).requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        layer(x, 1.0).float().sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize('causal', [True, False])
def test_centring_changes_nothing_but_rounding(causal):
    tau = torch.tensor(3.0, dtype=torch.float64)
    center = 5 * torch.randn(16, dtype=torch.float64)
    q, k, v = (center + torch.randn(2, 2, 9, 16, dtype=torch.float64) for _ in range(3))
    leaves = [t.requires_grad_() for t in (q, k, v)]
    found, wanted = attend(*leaves, 0.7, tau, causal), explicit(*leaves, 0.7, tau, causal)[1]
    assert absolute(found, wanted) < 1e-11
    cot = torch.randn_like(wanted)
    for a, b in zip(*(torch.autograd.grad((y * cot).sum(), leaves) for y in (found, wanted))):
        assert of_max(a, b) < 1e-10


@pytest.mark.parametrize('causal', [True, False])
@pytest.mark.parametrize('close', ['keys', 'values'])
def test_centring_keeps_digits_in_bfloat16(causal, close):
    tau, far = torch.tensor(3.0), 3 * torch.randn(2, 16)
    q, k, v = torch.randn(3, 2, 2, 9, 16)
    if close == 'keys':
        q, k = q + far[0], k + far[0]
    else:
        v = v + far[1]
    wanted = explicit(*(t.double() for t in (q, k, v)), 0.7, tau.double(), causal)[1]

    def error(function):
        with torch.autocast('cpu', torch.bfloat16):
            return (function(q, k, v, 0.7, tau, causal) - wanted).abs().mean().item()

    assert error(attend) < 0.5 * error(lambda *args: explicit(*args)[1])


@pytest.mark.parametrize('causal', [True, False])
@pytest.mark.parametrize('kind', ['attention', 'hmla'])
def test_masked_keys_are_not_seen(kind, causal):
    layer = (
        LorentzAttention(20, 3, causal)
        if kind == 'attention'
        else HMLA(20, 2, 5, 3, 4, 3, causal=causal)
    )
    layer, x = layer.double(), torch.randn(2, 8, 20, dtype=torch.float64)
    documents = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1]).expand(2, -1)
    mask = (documents[:, :, None] == documents[:, None])[:, None]
    apart = torch.cat([layer(x[:, :3], 0.7), layer(x[:, 3:], 0.7)], 1)
    assert absolute(layer(x, 0.7, mask=mask), apart) < 1e-11


@pytest.mark.parametrize('steps', [[1] * 7, [4, 1, 2]])
def test_cached_decoding_equals_the_whole_sequence(steps):
    layer, x = LorentzAttention(20, 3).double(), torch.randn(2, 7, 20, dtype=torch.float64)
    cache = TokenCache()
    with torch.no_grad():
        parts = [layer(part, 0.7, cache) for part in x.split(steps, 1)]
        assert absolute(torch.cat(parts, 1), layer(x, 0.7)) < 1e-12
    assert cache.length == 7 and cache.numbers_per_token == 2 * 3 * 7


@pytest.mark.parametrize('kind', ['attention', 'hmla'])
@pytest.mark.parametrize('size', [1.0, 30.0])
def test_the_last_token_alone_equals_the_whole_sequence(kind, size):
    layer = LorentzAttention(20, 3) if kind == 'attention' else HMLA(20, 2, 5, 3, 4, 3)
    x, c = size * torch.randn(2, 300, 20), torch.tensor(0.7)
    with torch.no_grad():
        wanted = copy.deepcopy(layer).double()(x.double(), c.double())[:, -1:]
        cache = TokenCache()
        layer(x[:, :-1], c, cache)
        found = layer(x[:, -1:], c, cache)
        whole = layer(x, c)[:, -1:]
        # not centered, it loses a few digits more where points are far out
        assert of_max(found, wanted) < 1e-5 + 4 * of_max(whole, wanted)
        with torch.autocast('cpu', torch.bfloat16):
            cache = TokenCache()
            layer(x[:, :-1], c, cache)
            found, whole = layer(x[:, -1:], c, cache), layer(x, c)[:, -1:]
        assert of_max(found, wanted) < 0.02 + 2 * of_max(whole, wanted)


def hmla_of(g, dtype, case):
    layer = HMLA(
        embed_dims=g['x'].shape[-1],
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


def value_and_gradients(g, dtype, case):
    """Result, gradients, and the function of the arguments that computes them."""
    layer, leaves = hmla_of(g, dtype, case)
    leaves |= {'x': g['x'].requires_grad_(), 'c': g['c'].requires_grad_()}

    def function():
        y = layer(leaves['x'], leaves['c'])
        return [y, *torch.autograd.grad((y * g['cot']).sum(), list(leaves.values()))]

    function.arguments = [leaves['x'], leaves['c'], *layer.parameters()]
    y, *grads = function()
    return y, dict(zip(leaves, grads)), function


@latent_files
@both
@pytest.mark.parametrize('case', ['causal', 'full', 'qlora'])
def test_golden_hmla(file, dtype, case):
    g = Golden(file, dtype)
    y, grads, _ = value_and_gradients(g, dtype, case)
    limits = [1e-9] * (1 + len(grads))
    if dtype == torch.float32:
        wide = Golden(file)
        _, _, function = value_and_gradients(wide, torch.float64, case)
        limits = [64 * size for size in rounding(function, function.arguments)]
    assert of_max(y, g.exact(f'{case}.y')) < limits[0]
    for (key, grad), limit in zip(grads.items(), limits[1:]):
        assert of_max(grad, g.exact(f'{case}.grad_{key}')) < limit, key


@latent_files
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


def test_bfloat16_hmla_has_finite_gradients():
    layer, x = HMLA(20, 2, 9, 5, 4, 6), (20 * torch.randn(1, 9, 20)).requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        layer(x, 1.0).float().sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    'wrong', [{'rope_dims': 3}, {'num_heads': 0}, {'v_dims': 0}, {'latent_dims': -4}]
)
def test_bad_hmla(wrong):
    good = dict(embed_dims=20, num_heads=2, latent_dims=9, nope_dims=5, rope_dims=4, v_dims=6)
    with pytest.raises(ValueError, match=f'{next(iter(wrong))}.* must be'):
        HMLA(**{**good, **wrong})
