"""The Riemannian normal distribution."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch.testing import assert_close

from hyper_mm.ops import lorentz as L
from hyper_mm.ops import riemannian_normal as R

from .conftest import randn
from .test_wrapped_normal import grid

C = 1.3
MEAN = torch.tensor([0.4, -0.8], dtype=torch.float64)


def exact(std, dim, c):
    """Logarithm of the normalizer, by adaptive quadrature of 30 digits."""
    with mpmath.workdps(30):
        s, root = mpmath.mpf(std), mpmath.sqrt(mpmath.mpf(c))

        def term(r):
            return mpmath.exp(-(r**2) / (2 * s**2)) * (mpmath.sinh(root * r) / root) ** (dim - 1)

        mode = max(float((dim - 1) * root * s**2), float(s) * math.sqrt(dim - 1))
        ends = [0, mode / 2, mode, mode + 4 * s, mode + 20 * s]
        size = term(mpmath.mpf(mode)) if dim > 1 else 1  # the tolerance there is absolute
        area = mpmath.quad(lambda r: term(r) / size, ends)
        sphere = 2 * mpmath.pi ** (mpmath.mpf(dim) / 2) / mpmath.gamma(mpmath.mpf(dim) / 2)
        return float(mpmath.log(sphere * area * size))


@pytest.mark.parametrize('dim', [1, 2, 3, 4, 5, 16, 64])
@pytest.mark.parametrize('std', [0.01, 0.5, 3.0])
def test_normalizer(std, dim):
    found = R.riemannian_log_normalizer(std, dim, C)
    assert found.dtype == torch.float64
    assert_close(found.item(), exact(std, dim, C), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('dim', [2, 3, 5])
def test_derivatives_of_the_normalizer(dim):
    std = torch.tensor([0.3, 1.7], dtype=torch.float64, requires_grad=True)
    c = torch.tensor(C, dtype=torch.float64, requires_grad=True)

    def call(std, c):
        return R.riemannian_log_normalizer(std, dim, c)

    assert torch.autograd.gradcheck(call, (std, c))
    assert torch.autograd.gradgradcheck(call, (std, c))


def test_density_integrates_to_one():
    v, area = grid()
    density = R.lorentz_riemannian_log_prob(L.expmap0(v, C), MEAN, 0.6, C).exp()
    assert_close((density * area).sum().item(), 1.0, rtol=2e-4, atol=0)


def test_ball_has_the_same_density_and_draws():
    x = L.expmap0(randn(50, 2), C)
    expected = R.lorentz_riemannian_log_prob(x, MEAN, 0.6, C)
    mean = L.to_poincare(MEAN, C)
    assert_close(R.poincare_riemannian_log_prob(L.to_poincare(x, C), mean, 0.6, C), expected)
    draws = [
        function(at, 0.6, C, (9,), torch.Generator().manual_seed(0))
        for function, at in (
            (R.lorentz_riemannian_sample, MEAN),
            (R.poincare_riemannian_sample, mean),
        )
    ]
    assert_close(L.to_poincare(draws[0], C), draws[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('dim', [1, 2, 6])
def test_samples_have_the_density(dim):
    """The derivative of the normalizer by sigma is the mean of d^2 / sigma^3."""
    mean = torch.zeros(dim, dtype=torch.float64)
    mean[0] = 0.7
    std = torch.tensor([0.4, 1.2], dtype=torch.float64, requires_grad=True)
    draw = torch.Generator().manual_seed(0)
    x = R.lorentz_riemannian_sample(mean.expand(2, dim), std, C, (4000,), draw)
    assert x.shape == (4000, 2, dim)
    assert not x.requires_grad
    square = L.dist(x, mean, C).square()
    (slope,) = torch.autograd.grad(R.riemannian_log_normalizer(std, dim, C).sum(), std)
    expected = slope * std.detach() ** 3
    error = square.std(0) / math.sqrt(len(x))
    assert ((square.mean(0) - expected).abs() < 4 * error).all()
    logs = L.transport_to0(mean, L.logmap(mean, x, C), C).mean(0)  # no direction is preferred
    assert (logs.abs() < 4 * (square.mean(0) / len(x)).sqrt()[:, None]).all()


def test_gradients_and_refusals():
    mean = MEAN.clone().requires_grad_()
    R.lorentz_riemannian_sample(mean, 0.5, C, (3,)).sum().backward()
    assert mean.grad.isfinite().all()
    single = R.lorentz_riemannian_sample(MEAN.float(), 0.5, C)
    assert single.dtype == torch.float32
    with pytest.raises(ValueError, match='std must be positive'):
        R.lorentz_riemannian_log_prob(MEAN, MEAN, 0.0, C)
    for value in (0.0, -1.0, math.nan):
        std = torch.tensor([0.5, value])
        for call in (
            lambda s: R.lorentz_riemannian_sample(MEAN, s, C),
            lambda s: R.poincare_riemannian_log_prob(MEAN / 4, MEAN / 4, s, C),
            lambda s: R.riemannian_log_normalizer(s, 2, C),
        ):
            with pytest.raises(ValueError, match='std must be positive and finite'):
                call(std)
    for sample in (R.lorentz_riemannian_sample, R.poincare_riemannian_sample):
        with pytest.raises(TypeError, match='sample_shape must be a tuple of integers'):
            sample(MEAN / 4, 0.5, C, 5)
    for log_prob in (R.lorentz_riemannian_log_prob, R.poincare_riemannian_log_prob):
        for dim in (1, 3):
            with pytest.raises(ValueError, match='x and mean must have the same last dimension'):
                log_prob(torch.zeros(dim), MEAN / 4, 0.5, C)
    with pytest.raises(TypeError, match='std must be a number'):
        R.lorentz_riemannian_sample(MEAN, '1', C)
    with pytest.raises(ValueError, match='dim must be at least 1'):
        R.riemannian_log_normalizer(1.0, 0, C)


@pytest.mark.parametrize('dim', [1, 2, 3, 5])
def test_drawing_ends_where_squares_overflow(dim):
    drawn = R.lorentz_riemannian_sample(torch.zeros(2, dim), 1e160, C)
    assert not L.dist0(drawn, C).isfinite().any()
