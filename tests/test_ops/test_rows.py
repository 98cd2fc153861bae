"""Elementwise maps in few passes: the same values and gradients as the formulas."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from hyper_mm.ops import apart, poincare, rows
from tests.helpers.op_cases import CASES, make

from .conftest import randn

NAMES = (
    'hyperplanes.gyroplane_dist',
    'lorentz.dist',
    'lorentz.expmap',
    'lorentz.geodesic',
    'lorentz.logmap',
    'lorentz.transport',
    'lorentz.transport_to0',
    'poincare.dist',
    'poincare.expmap',
    'poincare.geodesic',
    'poincare.gyration',
    'poincare.logmap',
    'poincare.mobius_add',
    'poincare.transport',
)
ops = pytest.mark.parametrize('name', NAMES)


@pytest.fixture
def taken(monkeypatch):
    """Counts results that are computed by rows."""
    monkeypatch.setattr(apart, 'dist', lambda *args: None)  # which would come first
    calls, computed = [], rows._computed

    def counted(*args):
        found = computed(*args)
        if found is not None:
            calls.append(args)
        return found

    monkeypatch.setattr(rows, '_computed', counted)
    return calls


def evaluate(name, tensors, c):
    tensors = [t.detach().requires_grad_() for t in tensors]
    trained = isinstance(c, torch.Tensor) and c.requires_grad
    inputs = [*tensors, c.detach().requires_grad_()] if trained else tensors
    value = CASES[name].call(*tensors, inputs[-1] if trained else c)
    weight = randn(*value.shape, seed=7).to(value.dtype)
    return [value, *torch.autograd.grad((value * weight).sum(), inputs)]


@ops
@pytest.mark.parametrize('curvature', ['trained', 'fixed', 'number'])
@pytest.mark.parametrize('radius', [0.0, 1e-3, 1.0, 3.0])
def test_values_and_gradients_are_those_of_the_formula(name, radius, curvature, taken):
    """In float64 from the same float32 inputs, to the rounding of the results."""
    tensors = make(name, 40, 6, dtype=torch.float32, radius=radius)
    c = torch.tensor(0.8, requires_grad=curvature == 'trained')
    c = 0.8 if curvature == 'number' else c
    found = evaluate(name, tensors, c)
    assert len(taken) == 1
    expected = evaluate(name, [t.double() for t in tensors], c)
    assert len(taken) == 1  # float64 takes the formula
    for one, other in zip(found, expected):
        assert one.dtype == torch.float32
        # each row to its own size, sums over rows to that of all
        size = other.abs().amax(-1, keepdim=True) if other.ndim > 1 else other.abs().max()
        error = (one.double() - other).abs()
        limit = 1e-6 * size + 1e-6 * expected[0].abs().max() * (other.ndim == 0) + 1e-30
        assert (error <= limit.clamp_min(1e-6 * other.abs().max() * 1e-3)).all()


@ops
def test_far_points_take_the_formula(name, taken):
    tensors = make(name, 5, 6, dtype=torch.float32, radius=9.0)
    value = CASES[name].call(*tensors, 1.0)
    if name.startswith('lorentz') or name == 'poincare.expmap':
        assert not taken
    wide = CASES[name].call(*(t.double() for t in tensors), 1.0)
    assert_close(value, wide.float(), rtol=1e-5, atol=0, equal_nan=True)


@ops
def test_second_derivatives(name, taken):
    """With create_graph the formula is differentiated."""
    tensors = [t.requires_grad_() for t in make(name, 3, 4, dtype=torch.float32)]
    value = CASES[name].call(*tensors, 1.0)
    assert taken
    weight = randn(*value.shape, seed=7).float()
    grads = torch.autograd.grad((value * weight).sum(), tensors, create_graph=True)
    again = torch.autograd.grad(sum(g.square().sum() for g in grads), tensors)
    plain = torch.autograd.grad((CASES[name].call(*tensors, 1.0) * weight).sum(), tensors)
    for one, other in zip(grads, plain):
        assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert all(g.isfinite().all() for g in again)


def test_broadcast_pieces_and_single_gradients(taken, monkeypatch):
    from hyper_mm.ops import lorentz

    monkeypatch.setattr(rows, '_CACHE', 64)  # many pieces, the last one shorter
    x, y = make('lorentz.logmap', 7, 5, dtype=torch.float32)
    y = y[:1].clone().requires_grad_()
    value = lorentz.logmap(x, y, 1.0)
    assert taken
    (grad,) = torch.autograd.grad(value.square().sum(), y)
    wide = y.detach().double().requires_grad_()
    expected = lorentz.logmap(x.double(), wide, 1.0)
    assert_close(value, expected.float(), rtol=1e-6, atol=1e-7)
    (other,) = torch.autograd.grad(expected.square().sum(), wide)
    assert_close(grad, other.float(), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(lorentz.logmap(x, y, 1.0), value)


def test_curvatures_of_rows_take_the_formula(taken):
    from hyper_mm.ops import lorentz

    x, y = make('lorentz.logmap', 7, 5, dtype=torch.float32)
    c = torch.linspace(0.5, 2, 7)[:, None]
    found = lorentz.logmap(x, y, c)
    assert not taken
    assert_close(found[2], lorentz.logmap(x[2], y[2], c[2]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', [n for n in NAMES if n.split('.')[1] in ('dist', 'logmap')])
def test_vectors_are_converted_where_a_row_needs_it(name, monkeypatch):
    """One far point among near ones, or outside of the limits of float32 passes."""
    monkeypatch.setattr(apart, 'dist', lambda *args: None)
    wide, computed = [], rows._computed
    monkeypatch.setattr(rows, '_computed', lambda *args: wide.append(args[1]) or computed(*args))
    near = make(name, 7, 6, dtype=torch.float32, radius=1.0)
    CASES[name].call(*near, 1.0)
    far = [t.clone() for t in near]
    far[0][3] = make(name, 7, 6, dtype=torch.float32, radius=5.0)[0][3]
    value = CASES[name].call(*far, 1.0)
    assert wide == [False, False, True]
    exact = CASES[name].call(*(t.double() for t in far), 1.0)
    assert_close(value, exact.float(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('angle', [0.0, 1e-4, 0.1])
@pytest.mark.parametrize('name', ['mobius_add', 'geodesic'])
def test_sums_that_almost_cancel_keep_their_digits(name, angle):
    """Of opposite points; in float32 passes the digits of the inputs would be those of the sum."""
    x = randn(64, 8, seed=1).double()
    x = (0.6 * x / x.norm(dim=1, keepdim=True)).float()
    y = -x * (1 + randn(64, 1, seed=2).float() * 1e-5) + angle * x.roll(1, dims=1)
    call = dict(
        mobius_add=lambda x, y: poincare.mobius_add(x, y, 1.0),
        geodesic=lambda x, y: poincare.geodesic(x, y, 0.5, 1.0),
    )[name]
    expected = call(x.double(), y.double())
    error = (call(x, y).double() - expected).norm(dim=1) / expected.norm(dim=1)
    assert error.max() < 2e-7  # three roundings
