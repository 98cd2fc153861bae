"""Frechet mean and Einstein midpoint."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from hyper_mm.ops import lorentz as L
from hyper_mm.ops import means as M

from .conftest import FLOATS, curvatures, randn, vectors


def point(v, c):
    return L.expmap0(v / math.sqrt(c), c)


def slope(mean, x, weight, c):
    """Length of the gradient of the mean squared distance at the mean."""
    logs = L.transport_to0(mean.unsqueeze(-2), L.logmap(mean.unsqueeze(-2), x, c), c)
    return (weight.unsqueeze(-1) * logs).sum(-2).norm(dim=-1) / weight.sum(-1)


@given(st.integers(0, 99), st.floats(0.1, 6), curvatures)
def test_has_no_slope(seed, spread, c):
    x, weight = point(spread * randn(2, 9, 4, seed=seed), c), randn(2, 9, seed=seed).abs()
    mean = M.lorentz_frechet_mean(x, weight, c)
    assert slope(mean, x, weight, c).max() < 1e-9
    mean = L.to_poincare(mean, c)
    # the ball itself has rounded points at radius 12 or so
    ball = M.poincare_frechet_mean(L.to_poincare(x, c), weight, c)
    assert_close(ball, mean, rtol=0, atol=1e-4 / math.sqrt(c))


@given(vectors(1e-3, 6), vectors(1e-3, 6), st.floats(0.05, 0.95), curvatures)
def test_of_two_points_divides_the_geodesic(u, v, t, c):
    x, y = point(u, c), point(v, c)
    mean = M.lorentz_frechet_mean(torch.stack([x, y]), torch.tensor([1 - t, t]).double(), c)
    assert L.dist(mean, L.geodesic(x, y, t, c), c) * math.sqrt(c) < 1e-6


def test_points_that_a_full_step_overshoots():
    """A single far point beside many near ones, and a spread of scaled radius 20."""
    x = torch.cat(
        [point(0.1 * randn(9, 3), 1.0), point(torch.tensor([[0, 20.0, 0]]).double(), 1.0)]
    )
    mean = M.lorentz_frechet_mean(x)
    assert slope(mean, x, torch.ones(10), 1.0) < 1e-6
    wide = point(10 * randn(40, 3), 1.0)
    assert slope(M.lorentz_frechet_mean(wide), wide, torch.ones(40), 1.0) < 1e-4


@pytest.mark.parametrize('dtype', FLOATS)
def test_gradient_is_that_of_the_mean(dtype):
    """Against finite differences in float64, at the tolerance of the mean."""
    x, weight = point(randn(5, 3), 0.7).requires_grad_(), randn(5, seed=1).abs().requires_grad_()
    c = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(M.lorentz_frechet_mean, (x, weight, c))
    low = x.detach().to(dtype).requires_grad_()
    grads = [
        torch.autograd.grad(M.lorentz_frechet_mean(z, weight.detach(), 0.7).sum(), z)[0]
        for z in (low, x)
    ]
    assert_close(grads[0].double(), grads[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('count', [2, 5])
def test_gradients_of_both_orders(count):
    """Of fewer points than dimensions, and of more; one of them is near the mean."""
    x, weight = point(randn(count, 3), 0.7), randn(count, seed=1).abs() + 0.1
    x[0] = M.lorentz_frechet_mean(x[1:], weight[1:], 0.7) + 1e-3
    inputs = [t.requires_grad_() for t in (x, weight, torch.tensor(0.7).double())]
    assert torch.autograd.gradcheck(M.lorentz_frechet_mean, inputs)
    assert torch.autograd.gradgradcheck(M.lorentz_frechet_mean, inputs)


def test_without_any_weight_is_the_origin_with_finite_gradients():
    x, weight = point(randn(4, 3), 1.0).requires_grad_(), torch.zeros(4, requires_grad=True)
    mean = M.lorentz_frechet_mean(x, weight)
    assert (mean == 0).all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(mean.sum(), (x, weight)))


def test_says_that_it_has_not_converged():
    x = point(6 * randn(9, 3), 1.0)
    with pytest.warns(RuntimeWarning, match='converged in 1 steps: the next one would be of'):
        M.lorentz_frechet_mean(x, max_iter=1)


@pytest.mark.parametrize(('name', 'value'), [('tol', 0.0), ('tol', -1.0), ('max_iter', 0)])
def test_refuses(name, value):
    with pytest.raises(ValueError, match=f'{name} must be'):
        M.lorentz_frechet_mean(randn(3, 2), **{name: value})


MEANS = (M.lorentz_frechet_mean, M.poincare_frechet_mean, M.einstein_midpoint)


@pytest.mark.parametrize('mean', MEANS, ids=lambda f: f.__name__)
def test_refuses_weights(mean):
    x = 0.1 * randn(2, 3, 4)
    for shape in ((3,), (1, 3), (2, 3), (5, 1, 3)):
        assert mean(x, torch.ones(shape)).shape[-1] == 4
    for shape in ((), (1,), (4,), (2, 4), (3, 3), (2, 3, 1)):
        with pytest.raises(ValueError, match=r'weight must broadcast with \(2, 3\) and have one'):
            mean(x, torch.ones(shape))
    with pytest.raises(ValueError, match=r'weight must not be negative, got -0\.5'):
        mean(x, torch.tensor([1.0, 1.0, -0.5]))
    with pytest.raises(TypeError, match='weight must be a tensor, got list'):
        mean(x, [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match=r'points must be of shape \(\.\.\., n, d\), got \(4,\)'):
        mean(x[0, 0])
    assert (mean(x, torch.zeros(3)) == 0).all()


@given(st.integers(0, 99), curvatures)
def test_einstein_midpoint_is_the_centroid(seed, c):
    x, weight = point(randn(2, 7, 4, seed=seed), c), randn(2, 7, seed=seed).abs()
    value = M.einstein_midpoint(L.to_klein(x, c), weight, c)
    assert_close(value, L.to_klein(L.centroid(x, weight, c), c))
    assert (M.einstein_midpoint(L.to_klein(x, c), 0 * weight, c) == 0).all()
