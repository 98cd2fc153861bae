"""Fused functions against the formulas they stand for: values, gradients, extremes."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.nn import functional as F
from torch.testing import assert_close

from hyper_mm.ops import fused, lorentz

from ..conftest import no_old_dynamo
from ..helpers.golden import absolute, of_max
from .conftest import FLOATS, randn

CURVATURES = [0.05, 0.7, 20.0]
floats = pytest.mark.parametrize('dtype', FLOATS)
curvatures = pytest.mark.parametrize('c', CURVATURES)


def lifted(x, c):
    return torch.cat([lorentz.time(x, c, keepdim=True), x], -1)


def plain_norm(x, weight, eps):
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight


def plain_sum(points, weights, c, scale=1.0):
    u = sum(w * lifted(x, c) for x, w in zip(points, weights))
    norm = c * (u[..., :1].square() - u[..., 1:].square().sum(-1, keepdim=True))
    return scale * u[..., 1:] / norm.abs().sqrt()


def plain_heads(x, c, table=None, factor=None, center=None, width=0):
    if table is not None:
        start = x.shape[-1] - 2 * table.shape[-1]
        even, odd = x[..., start::2], x[..., start + 1 :: 2]
        pairs = [
            even * table.real - odd * table.imag,
            even * table.imag + odd * table.real,
        ]
        x = torch.cat([x[..., :start], torch.stack(pairs, -1).flatten(-2)], -1)
    out, middle = lifted(x, c), None
    if factor is not None:
        out = factor * torch.cat([-out[..., :1], out[..., 1:]], -1)
    if center is not None:
        middle = out.mean(1, keepdim=True) if center == 'mean' else out[:, :1]
        out, middle = out - middle.detach(), middle.detach()
    return F.pad(out, (0, max(width - out.shape[-1], 0))), middle


def plain_normalize(u, middle, c):
    u = u + middle
    norm = c * (u[..., :1].square() - u[..., 1:].square().sum(-1, keepdim=True))
    return u / norm.sqrt()


def points(seed, *shape):
    return randn(*(shape or (2, 5, 6)), seed=seed).requires_grad_()


def numbers(*values):
    return [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]


def mean_of_points(c):
    """Means of points on the hyperboloid, less a constant."""
    whole = lifted(randn(2, 5, 3, 4, 6), c).mean(-2)
    return (whole - whole[:, :1]).requires_grad_(), whole[:, :1]


def cases(c):
    """Fused function, plain formula and arguments, by name."""
    table = torch.polar(torch.ones(5, 1, 2, dtype=torch.float64), randn(5, 1, 2))
    column = randn(2, 5, 1).abs().add(0.1).requires_grad_()
    w, factor, scale = numbers(0.8, 0.3, 2.0)
    c = numbers(c)[0]
    x, y, z, row = points(0), points(1), points(2), points(3, 2, 5, 3, 6)

    def sum3(x, y, z, w, column, c, scale):
        return (x, y, z), (w, column), c, scale

    return {
        'lift': (fused.to_ambient, lifted, (x, c)),
        'gated_ambient': (
            fused.gated_ambient,
            lambda a, b, c: lifted(F.silu(a) * b, c),
            (x, y, c),
        ),
        'gated_ambient_halves': (
            lambda a, b, c: fused.gated_ambient_halves(torch.cat([a, b], -1), c),
            lambda a, b, c: lifted(F.silu(a) * b, c),
            (x, y, c),
        ),
        'rms_norm': (fused.rms_norm, plain_norm, (x, points(4, 6), 1e-8)),
        'sum2': (
            lambda x, y, w, c: fused.normalized_sum((x, y), (w,), c),
            lambda x, y, w, c: plain_sum((x, y), (1, w), c),
            (x, y, w, c),
        ),
        'sum3': (
            lambda *args: fused.normalized_sum(*sum3(*args)),
            lambda x, y, z, w, g, c, s: plain_sum((x, y, z), (1, w, g), c, s),
            (x, y, z, w, column, c, scale),
        ),
        'queries': (
            lambda x, c, f: fused.heads(x, c, table, factor=f)[0],
            lambda x, c, f: plain_heads(x, c, table, factor=f)[0],
            (row, c, factor),
        ),
        'keys': (
            lambda x, c: fused.heads(x, c, table, center='first', width=9)[0],
            lambda x, c: plain_heads(x, c, table, center='first', width=9)[0],
            (row, c),
        ),
        'values': (
            lambda x, c: fused.heads(x, c, center='mean')[0],
            lambda x, c: plain_heads(x, c, center='mean')[0],
            (row, c),
        ),
        'normalize': (fused.normalize, plain_normalize, (*mean_of_points(c.item()), c)),
    }


NAMES = list(cases(1.0))
named = pytest.mark.parametrize('name', NAMES)


@named
@curvatures
def test_values_and_gradients_equal_the_formula(name, c):
    function, plain, args = cases(c)[name]
    assert_close(function(*args), plain(*args), rtol=1e-12, atol=1e-12)
    leaves = [a for a in args if isinstance(a, torch.Tensor) and a.requires_grad]
    cot = randn(*function(*args).shape, seed=9)
    wanted, found = (torch.autograd.grad((f(*args) * cot).sum(), leaves) for f in (plain, function))
    assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('name', [n for n in NAMES if n not in ('keys', 'values')])
def test_gradients_equal_differences(name):  # what keys and values lose counts as a constant
    function, _, args = cases(0.7)[name]
    assert gradcheck(function, args)


@pytest.mark.parametrize('name', [n for n in NAMES if n not in ('keys', 'values')])
def test_second_derivatives_equal_differences(name):
    function, _, args = cases(0.7)[name]
    assert gradgradcheck(function, args)


@named
@curvatures
def test_second_derivatives_equal_the_formula(name, c):
    """In plain autograd, by all inputs, of which one depends on another."""
    function, plain, args = cases(c)[name]
    leaves = [a for a in args if isinstance(a, torch.Tensor) and a.requires_grad]
    found = []
    for f in (function, plain):
        tied = [a * (1 + 1e-3 * leaves[-1].mean()) if a is leaves[0] else a for a in args]
        out = f(*tied)
        total = (out * randn(*out.shape, seed=9)).sum() + out.square().sum()
        orders = []
        for order in range(2):
            gradients = torch.autograd.grad(total, leaves, create_graph=order < 1)
            orders += gradients
            total = sum((g * randn(g.numel(), seed=order).view_as(g)).sum() for g in gradients)
        found.append(orders)
    for a, b in zip(*found):
        assert (a - b).abs().max() <= 1e-8 * (1 + b.abs().max())


@pytest.mark.parametrize('name', [n for n in NAMES if n not in ('queries', 'keys')])
def test_many_gradients_at_once(name):
    """`is_grads_batched`, as so many passes; torch cannot with the rotations of the others."""
    function, _, args = cases(0.7)[name]
    leaves = [a for a in args if isinstance(a, torch.Tensor) and a.requires_grad]
    value = function(*args)
    pulls = randn(2, *value.shape, seed=9)
    found = torch.autograd.grad(value, leaves, pulls, retain_graph=True, is_grads_batched=True)
    singles = (torch.autograd.grad(value, leaves, pull, retain_graph=True) for pull in pulls)
    for one, *others in zip(found, *singles):
        assert_close(one, torch.stack(others), rtol=1e-9, atol=1e-9)


def test_hessian_of_plain_autograd():
    x, cot = randn(2, 3), randn(2, 4)
    found, wanted = (
        torch.autograd.functional.hessian(lambda x, f=f: (f(x, 0.7) * cot).sum(), x)
        for f in (fused.to_ambient, lifted)
    )
    assert_close(found, wanted)


@named
@pytest.mark.parametrize('size', [0.0, 1e-30, 1e4])
def test_extremes_have_finite_gradients(name, size):
    function, _, args = cases(0.7)[name]
    args = [
        (a * size if a.ndim > 2 and a.shape[-1] > 1 else a).detach().float().requires_grad_()
        if isinstance(a, torch.Tensor)
        else a
        for a in args
    ]
    if name == 'normalize':
        args[1] = args[1].detach()
    out = function(*args)
    out.square().sum().backward()
    leaves = [a for a in args if isinstance(a, torch.Tensor) and a.requires_grad]
    assert out.isfinite().all() and all(a.grad.isfinite().all() for a in leaves)


@floats
def test_pieces_of_rows_are_the_whole(dtype, monkeypatch):
    a, b, cot = (randn(7, 6, seed=i).to(dtype) for i in range(3))
    cot, found = torch.cat([cot, cot[:, :1]], -1), []
    for chunk in (1, 12, 2**16):
        monkeypatch.setattr(fused, '_CHUNK', chunk)
        leaves = a.clone().requires_grad_(), b.clone().requires_grad_()
        both = torch.cat(leaves, -1).view(1, 7, 12)
        for out in (fused.gated_ambient(*leaves, 0.7), fused.gated_ambient_halves(both, 0.7)[0]):
            found.append([out, *torch.autograd.grad((out * cot).sum(), leaves)])
    for one in found[:-1]:
        assert_close(one, found[-1])


@pytest.mark.parametrize(('radius', 'limit'), [(1, 3e-7), (100, 3e-6), (1e4, 3e-4)])
def test_close_points_far_out_keep_their_digits(radius, limit):
    base = randn(4, 9, seed=1)
    base = radius * base / base.norm(dim=-1, keepdim=True)
    x, y, z = (base + 0.3 * randn(4, 9, seed=i) for i in (2, 3, 4))
    x, y, z = (t.float() for t in (x, y, z))
    weights = [torch.tensor(w) for w in (0.3, 0.7)]
    found = fused.normalized_sum((x, y, z), weights, 0.7)
    wanted = plain_sum([t.double() for t in (x, y, z)], (1, *weights), 0.7)
    assert of_max(found, wanted) < limit


def test_a_sum_of_zero_is_finite():
    x = randn(3, 5).requires_grad_()
    out = fused.normalized_sum((x, x), (-torch.ones(()),), 1.0)
    out.sum().backward()
    assert out.isfinite().all() and x.grad.isfinite().all()


@named
def test_autocast_changes_nothing(name):
    function, _, args = cases(0.7)[name]
    args = [a.detach().float().requires_grad_() if isinstance(a, torch.Tensor) else a for a in args]
    results = []
    for enabled in (False, True):
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            out = function(*args)
            results.append([out, *torch.autograd.grad(out.square().sum(), args[:1])])
    assert all(torch.equal(a, b) for a, b in zip(*results))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_it_is(dtype):
    a, b = (randn(3, 5, seed=i).to(dtype).requires_grad_() for i in range(2))
    out = fused.gated_ambient(a, b, 0.7)
    wanted = lifted(F.silu(a.double()) * b.double(), 0.7)
    assert out.dtype == torch.float32 and absolute(out, wanted) < 3e-6
    out.sum().backward()
    assert a.grad.dtype == dtype and a.grad.isfinite().all()
    assert fused.to_ambient(a, 0.7).dtype == torch.float32


def test_layouts_do_not_matter():
    a, b = randn(2, 5, 2, 6).transpose(1, 2).unbind(1)
    cot = randn(7, 5, 2).permute(2, 1, 0)
    results = []
    for x, y, g in ((a, b, cot), (a.contiguous(), b.contiguous(), cot.contiguous())):
        x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
        results.append(torch.autograd.grad(fused.gated_ambient(x, y, 0.7), (x, y), g))
    assert_close(*results)


@pytest.mark.parametrize('c', [0.0, -1.0, float('nan')])
def test_bad_curvature(c):
    x = randn(2, 1, 1, 5)
    for function in (
        lambda: fused.to_ambient(x, c),
        lambda: fused.gated_ambient(x, x, c),
        lambda: fused.heads(x, c),
        lambda: fused.normalize(x, x, c),
        lambda: fused.normalized_sum((x, x), (x.new_ones(()),), c),
    ):
        with pytest.raises(ValueError, match='c must be positive'):
            function()


@pytest.mark.parametrize('count', [0, 2])
def test_bad_number_of_weights(count):
    x = randn(2, 5)
    with pytest.raises(ValueError, match='weights one fewer'):
        fused.normalized_sum((x, x), (x.new_ones(()),) * count, 1.0)


COMPILED = {
    'lift': lambda x, w: fused.to_ambient(x, w[0]),
    'gated_ambient': lambda x, w: fused.gated_ambient(x, x + w, 0.7),
    'rms_norm': lambda x, w: fused.rms_norm(x, w, 1e-6),
    'normalized_sum': lambda x, w: fused.normalized_sum((x, 2 * x, x - 1), (w[1], w[2]), w[0]),
    'queries': lambda x, w: fused.heads(x, w[0], factor=w[1], width=9)[0],
    'keys': lambda x, w: fused.heads(x, w[0], center='mean')[0],
    'normalize': lambda x, w: fused.normalize(
        lifted(x, 0.7), lifted(x, 0.7).mean(1, keepdim=True).detach(), w[0]
    ),
}


@no_old_dynamo
@pytest.mark.parametrize('name', COMPILED)
def test_compiled_code_has_the_same_gradients(name):
    torch._dynamo.reset()
    x = randn(2, 5, 3, 4, seed=0).double().requires_grad_()
    w = torch.tensor([0.7, 0.4, 1.3, 0.9], dtype=torch.float64, requires_grad=True)
    cotangent, results = None, []
    for function in (COMPILED[name], torch.compile(COMPILED[name], backend='eager')):
        out = function(x, w)
        cotangent = torch.randn_like(out) if cotangent is None else cotangent
        results.append((out, *torch.autograd.grad(out, (x, w), cotangent)))
    assert all((gradient != 0).any() for gradient in results[0][1:])
    for fused_one, compiled in zip(*results):
        assert_close(compiled, fused_one)


@named
def test_torch_func_takes_the_formulas(name):
    """Transforms differentiate the formulas: Jacobians, Hessians, vmap, forward mode."""
    function, plain, args = cases(0.7)[name]
    x, rest = args[0].detach(), args[1:]

    def call(f):
        return lambda x: f(x, *rest)

    jacobians = [torch.func.jacfwd(call(f))(x) for f in (function, plain)]
    assert_close(*jacobians)
    small = x[:1, :2] if x.ndim == 3 and name in ('lift', 'rms_norm') else None
    if small is not None:
        totals = [lambda x, f=f: f(x, *rest).square().sum() for f in (function, plain)]
        assert_close(*(torch.func.hessian(t)(small) for t in totals))
    with forward_ad.dual_level():
        tangent = randn(*x.shape, seed=5)
        duals = [
            forward_ad.unpack_dual(f(forward_ad.make_dual(x, tangent), *rest)).tangent
            for f in (function, plain)
        ]
        assert_close(*duals)
