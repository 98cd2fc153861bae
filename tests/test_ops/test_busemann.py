"""Busemann functions and horospheres."""

from __future__ import annotations

import math

import mpmath as mp
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from hyper_mm.ops import busemann as B
from hyper_mm.ops import lorentz as L

from . import exact
from .conftest import FLOATS, curvatures, randn, vectors


def point(v, c):
    return L.expmap0(v / math.sqrt(c), c)


@given(vectors(1e-3, 8), st.floats(-6, 6), curvatures)
def test_along_the_ray_it_is_minus_the_radius(p, r, c):
    x = L.expmap0(r * p / p.norm(), c)
    assert_close(B.lorentz_busemann(x, p, c).item(), -r, rtol=1e-9, atol=1e-12)


@given(vectors(1e-3, 5), vectors(1e-3, 5), curvatures)
def test_is_the_limit_of_distances(u, p, c):
    x, far = point(u, c), 16 / math.sqrt(c)
    y = L.expmap0(far * p / p.norm(), c)
    assert_close(B.lorentz_busemann(x, p, c), L.dist(x, y, c) - far, rtol=1e-5, atol=1e-5)


@given(vectors(1e-3, 6), vectors(1e-3, 6), curvatures)
def test_grows_at_most_as_fast_as_the_distance(u, p, c):
    """And exactly so away from the ideal point: its Riemannian gradient is of length 1."""
    x = point(u, c).requires_grad_()
    grad = torch.autograd.grad(B.lorentz_busemann(x, p, c), x)[0]
    # Riemannian gradient in space components: (I + c x x') grad; squared length grad' (...) grad
    length = grad.square().sum() + c * (x @ grad).square()
    assert_close(length.item(), 1.0, rtol=1e-6, atol=0)


@given(st.integers(0, 99), curvatures)
def test_forms_agree(seed, c):
    x, p = point(randn(6, 4, seed=seed), c), randn(3, 4, seed=seed + 1)
    expected = B.lorentz_busemann(x[:, None], p, c)
    assert_close(B.lorentz_pairwise_busemann(x, p, c), expected, rtol=1e-7, atol=1e-9)
    ball = L.to_poincare(x, c)[:, None]
    assert_close(B.poincare_busemann(ball, p, c), expected)
    assert_close(B.lorentz_horosphere_dist(x[:, None], p, 0.4, c), expected - 0.4)
    assert_close(B.poincare_horosphere_dist(ball, p, 0.4, c), expected - 0.4)


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('radius', [1e-4, 1.0, 6.0, 12.0, 38.0])
def test_against_exact_arithmetic(dtype, radius):
    with mp.workdps(exact.DIGITS):
        for u, p in exact.directions(dtype):
            limit = 4 * torch.finfo(dtype).eps + 1e4 * torch.finfo(torch.float64).eps
            x, p = L.expmap0(radius * u, 1.0).to(dtype), p.to(dtype)
            a, b = exact.numbers(x), exact.numbers(p)
            expected = mp.log(exact.time(a) - exact.dot(a, b) / exact.norm(b))
            assert exact.error(B.lorentz_busemann(x, p, 1.0), expected) < limit
            if radius < 13:  # float32 has no ball points beyond
                x = L.to_poincare(L.expmap0(radius * u, 1.0), 1.0).to(dtype)
                a = exact.numbers(x)
                apart = [m / exact.norm(b) - n for m, n in zip(b, a)]
                expected = mp.log(exact.dot(apart, apart) / (1 - exact.dot(a, a)))
                # float64 has 1 - |x|^2 to eps / (1 - |x|^2)
                gap = float(1 - exact.dot(a, a))
                limit += 4 * torch.finfo(torch.float64).eps / gap
                assert exact.error(B.poincare_busemann(x, p, 1.0), expected) < limit


@pytest.mark.parametrize('radius', [3.0, 5.0, 8.0, 10.0, 15.0, 25.0, 38.0])
@pytest.mark.parametrize('batch', [(), (2,)])
def test_pairs_toward_the_ideal_point_keep_their_digits(radius, batch):
    """There the product of a pair cancels; values and gradients are those of the elements."""
    p = torch.nn.functional.normalize(randn(*batch, 7, 5, seed=1), dim=-1).float()
    x = (torch.sinh(torch.tensor(radius)) * p.double()).float().requires_grad_()
    expected = B.lorentz_busemann(x.unsqueeze(-2), p.unsqueeze(-3), 1.0)
    found = B.lorentz_pairwise_busemann(x, p, 1.0)
    assert_close(found, expected, rtol=1e-6, atol=1e-6)
    weight = torch.eye(7)  # of each point its own ideal point
    grads = [torch.autograd.grad((v * weight).sum(), x)[0] for v in (found, expected)]
    assert ((grads[0] - grads[1]).norm(dim=-1) / grads[1].norm(dim=-1)).max() < 1e-6
    one = B.lorentz_pairwise_busemann(x, p[..., :1, :], 1.0)
    assert_close(one, found[..., :1], rtol=1e-6, atol=1e-6)
