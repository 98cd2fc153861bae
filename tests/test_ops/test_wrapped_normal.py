"""The wrapped normal distribution."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from hyper_mm.ops import lorentz as L
from hyper_mm.ops import wrapped_normal as W

from .conftest import randn

C = 1.3
MEAN = torch.tensor([0.4, -0.8], dtype=torch.float64)
STD = torch.tensor([0.3, 0.9], dtype=torch.float64)


def grid(radius=7.0, steps=500, turns=360):
    """Tangent vectors at the origin, and the area of the cells around their points."""
    r = (torch.arange(steps).double() + 0.5) * radius / steps
    angle = torch.arange(turns).double() * 2 * math.pi / turns
    v = r[:, None, None] * torch.stack([angle.cos(), angle.sin()], -1)
    area = torch.sinh(r * math.sqrt(C)) / math.sqrt(C) * (radius / steps) * (2 * math.pi / turns)
    return v, area[:, None]


@pytest.mark.parametrize('std', [0.5, STD])
def test_density_integrates_to_one(std):
    v, area = grid()
    x = L.expmap0(v, C)
    density = W.lorentz_wrapped_log_prob(x, MEAN, std, C).exp()
    assert_close((density * area).sum().item(), 1.0, rtol=2e-4, atol=0)


def test_ball_has_the_same_density():
    x = L.expmap0(randn(50, 2), C)
    expected = W.lorentz_wrapped_log_prob(x, MEAN, STD, C)
    ball = W.poincare_wrapped_log_prob(L.to_poincare(x, C), L.to_poincare(MEAN, C), STD, C)
    assert_close(ball, expected)


def test_samples_have_the_density():
    """Mean of a function over samples, and its integral; both models draw the same points."""
    x = W.lorentz_wrapped_sample(MEAN, STD, C, (20000,), torch.Generator().manual_seed(0))
    assert x.shape == (20000, 2)
    v, area = grid()
    density = W.lorentz_wrapped_log_prob(L.expmap0(v, C), MEAN, STD, C).exp()
    expected = (L.dist0(L.expmap0(v, C), C) * density * area).sum()
    drawn = L.dist0(x, C)
    assert abs(drawn.mean() - expected) < 4 * drawn.std() / math.sqrt(len(drawn))
    p = W.poincare_wrapped_sample(
        L.to_poincare(MEAN, C), STD, C, (20000,), torch.Generator().manual_seed(0)
    )
    assert_close(L.to_poincare(x, C), p, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize('radius', [0.0, 1.0, 30.0])
def test_gradients_are_finite(dtype, radius):
    radius = min(radius, 8.0) if dtype == torch.float16 else radius
    mean = torch.tensor([[radius, 0.0, 0.0]], dtype=torch.float64)
    mean = L.expmap0(mean, 1.0).to(dtype).requires_grad_()
    std = torch.full((3,), 0.5, requires_grad=True)
    x = W.lorentz_wrapped_sample(mean, std, 1.0, (4,), torch.Generator().manual_seed(0))
    value = W.lorentz_wrapped_log_prob(x, mean, std, 1.0)
    assert value.isfinite().all()
    for grad in torch.autograd.grad(value.mean(), (mean, std)):
        assert grad.isfinite().all()


@pytest.mark.parametrize(
    'std',
    [
        *(0.0, -1.0, math.inf, torch.ones(3)),
        *(torch.tensor([1.0, x]) for x in (0.0, -1.0, math.inf, math.nan)),
    ],
)
def test_refuses_a_deviation_out_of_range(std):
    with pytest.raises(ValueError, match='std must be'):
        W.lorentz_wrapped_log_prob(MEAN, MEAN, std, 1.0)
    with pytest.raises(ValueError, match='std must be'):
        W.poincare_wrapped_sample(MEAN, std, 1.0)


@pytest.mark.parametrize('sample_shape', [5, (2.0,), (-1,), (True,), 'ab'])
def test_refuses_a_sample_shape(sample_shape):
    for sample in (W.lorentz_wrapped_sample, W.poincare_wrapped_sample):
        assert sample(MEAN / 4, 1.0, 1.0, [2, 0]).shape == (2, 0, 2)
        with pytest.raises(TypeError, match='sample_shape must be a tuple of integers'):
            sample(MEAN, 1.0, 1.0, sample_shape)


@pytest.mark.parametrize('shape', [(3,), (1,), (5, 3)])
def test_refuses_points_of_other_spaces(shape):
    for log_prob in (W.lorentz_wrapped_log_prob, W.poincare_wrapped_log_prob):
        with pytest.raises(ValueError, match='x and mean must have the same last dimension'):
            log_prob(torch.zeros(shape), MEAN, 1.0, 1.0)


def test_refuses_a_deviation_that_is_no_number():
    with pytest.raises(TypeError, match='std must be a number or a tensor, got str'):
        W.lorentz_wrapped_sample(MEAN, '1', 1.0)
