"""Distances of far pairs in float32 passes, against those of float64."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from hyper_mm.ops import apart, lorentz

from .conftest import randn

C = 1.3


def points(radius: float, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs at that scaled radius, whose directions are at least 63 degrees from each other."""
    normalize = torch.nn.functional.normalize
    u, v = (normalize(randn(30, dim, seed=seed), dim=-1) for seed in (1, 2))
    across = normalize(v - (u * v).sum(-1, keepdim=True) * u, dim=-1)
    v = normalize(across + randn(30, 1, seed=3).clamp(max=0.5) * u, dim=-1)
    return tuple(lorentz.expmap0(radius / C**0.5 * z, C).float() for z in (u, v))


def plain(x, y, c):
    return lorentz._dist(x, y, c)


@pytest.mark.parametrize('dim', [2, 64, 512])
@pytest.mark.parametrize('radius', [1e-3, 0.3, 1.0, 3.0, 6.0, 9.0])
def test_values_and_gradients_are_those_of_float64(radius, dim):
    x, y = (z.requires_grad_() for z in points(radius, dim))
    value = apart.dist(plain, x, y, C)
    assert value.dtype == torch.float32
    wide = [z.detach().double().requires_grad_() for z in (x, y)]
    expected = plain(*wide, C)
    assert_close(value.double(), expected, rtol=4 * torch.finfo(torch.float32).eps, atol=0)
    weight = randn(30, seed=5)
    found = torch.autograd.grad((value * weight.float()).sum(), (x, y))
    wanted = torch.autograd.grad((expected * weight.float()).sum(), wide)
    for one, other in zip(found, wanted):
        error = (one.double() - other).norm(dim=-1) / other.norm(dim=-1)
        assert error.max() < 16 * torch.finfo(torch.float32).eps
    with torch.no_grad():
        assert torch.equal(apart.dist(plain, x, y, C), value)


@pytest.mark.parametrize('radius', [0.0, 1e-3, 1.0, 6.0])
def test_one_close_pair_is_enough_to_decline(radius):
    x, y = points(max(radius, 1e-3), 5)
    y[7] = x[7] * 1.01 if radius else x[7]
    assert apart.dist(plain, x, y, C) is None
    value = lorentz.dist(x, y, C)
    assert_close(value.double(), plain(x.double(), y.double(), C), rtol=1e-6, atol=0)


def test_what_is_no_number_declines():
    x, y = points(1.0, 5)
    for wrong in (torch.nan, torch.inf):
        assert apart.dist(plain, x.index_fill(0, torch.tensor([3]), wrong), y, C) is None
    far = torch.full((2, 5), 1e30)
    assert apart.dist(plain, far, -far, C) is None


@pytest.mark.parametrize(
    'change',
    [
        lambda x, y: (x.double(), y.double(), C),
        lambda x, y: (x, y[:1], C),
        lambda x, y: (x, y, torch.tensor(C)),
        lambda x, y: (x[:0], y[:0], C),
        lambda x, y: (x.to('meta'), y.to('meta'), C),
    ],
    ids=['float64', 'broadcast', 'tensor', 'empty', 'device'],
)
def test_other_input_declines(change):
    x, y = points(1.0, 5)
    assert apart.dist(plain, x, y, C) is not None
    assert apart.dist(plain, *change(x, y)) is None


def test_second_derivatives_are_those_of_the_formula():
    x, y = (z[:3].requires_grad_() for z in points(1.0, 4))
    (first,) = torch.autograd.grad(apart.dist(plain, x, y, C).sum(), x, create_graph=True)
    found = torch.autograd.grad(first.square().sum(), (x, y))
    wide = [z.detach().double().requires_grad_() for z in (x, y)]
    (other,) = torch.autograd.grad(plain(*wide, C).sum(), wide[0], create_graph=True)
    for one, wanted in zip(found, torch.autograd.grad(other.square().sum(), wide)):
        assert_close(one.double(), wanted, rtol=1e-5, atol=1e-6)
