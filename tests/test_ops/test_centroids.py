"""Centroids with gradients of their own, against those of the formula and 120-digit arithmetic."""

from __future__ import annotations

import mpmath as mp
import pytest
import torch
from torch.testing import assert_close

from hyper_mm.ops import centroids, lorentz

from . import exact
from .conftest import randn, vectors_of_length

C = 1.3
EPS = torch.finfo(torch.float32).eps


def points(kind: str, dim: int = 5) -> torch.Tensor:
    """Seven sets of six points, as space components in float32."""
    normalize = torch.nn.functional.normalize
    axis = normalize(randn(7, 1, dim, seed=1), dim=-1)
    spread = randn(7, 6, dim, seed=2)
    u = {
        'one side': normalize(spread, dim=-1) * 3 + 2 * axis,
        'around the origin': spread,
        'near': 1e-2 * spread + 1e-3 * axis,
        'close together': 3 * axis + 1e-3 * spread,
        'close together, far out': 7 * axis + 1e-2 * spread,
    }[kind]
    return lorentz.expmap0(u / C**0.5, C).float()


KINDS = ['one side', 'around the origin', 'near', 'close together', 'close together, far out']


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('kind', KINDS)
def test_values_and_gradients_are_those_of_float64(kind, weighted):
    x = points(kind).requires_grad_()
    weight = randn(7, 6, seed=3).abs().float().requires_grad_() if weighted else None
    leaves = [t for t in (x, weight) if t is not None]
    value = centroids.in_few_passes(x, weight, C)
    wide = [t.detach().double().requires_grad_() for t in leaves]
    expected = centroids.formula(wide[0], wide[1] if weighted else None, C)
    error = (value.double() - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert value.dtype == torch.float32 and error.max() < 8 * EPS
    pull = randn(7, 5, seed=5).float()
    found = torch.autograd.grad((value * pull).sum(), leaves)
    wanted = torch.autograd.grad((expected * pull).sum(), wide)
    # a gradient of a point is at most about its share of the pull, stretched by the radius
    size = wanted[0].norm(dim=-1).amax(-1, keepdim=True)
    assert (((found[0].double() - wanted[0]).norm(dim=-1) / size) < 16 * EPS).all()
    if weighted:  # of a sum of terms of the size of the mean's distance to the points
        assert_close(found[1].double(), wanted[1], rtol=1e-4, atol=1e-5 * wanted[1].abs().max())
    with torch.no_grad():
        assert torch.equal(centroids.in_few_passes(x, weight, C), value)


def exact_centroid(x: torch.Tensor, weight: torch.Tensor) -> list:
    """Of points of curvature -1 with weights that are not all 0."""
    points, shares = [exact.numbers(row) for row in x], exact.numbers(weight)
    space = [mp.fdot(shares, row) for row in zip(*points)]
    total = mp.fdot(shares, [exact.time(row) for row in points])
    root = mp.sqrt(total**2 - exact.dot(space, space))
    return [value / root for value in space]


def far_points(radius: float, spread: float, dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Six points around one, the spread in parts of its ambient length."""
    x = torch.sinh(torch.tensor(radius)).double() * vectors_of_length(1.0, 5, seed=seed)
    return (x + spread * x.norm() * randn(6, 5, seed=seed + 1)).to(dtype)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('spread', [1e-7, 1e-3, 2.0])
@pytest.mark.parametrize('radius', [1.0, 12.0, 25.0, 38.0])
@pytest.mark.parametrize('few', [False, True], ids=['weights', 'one weight'])
def test_is_exact_at_every_radius(radius, spread, dtype, few):
    for seed in range(3):
        x = far_points(radius, spread, dtype, seed)
        weight = randn(6, seed=seed + 2).abs().to(dtype)
        if few:  # one far point, and a trace of others
            weight[1:] *= 1e-7
        with mp.workdps(exact.DIGITS):
            expected = exact_centroid(x, weight)
            size = exact.norm(expected)
            error = exact.error(lorentz.centroid(x, weight, 1.0), expected, size)
        # what rounding of the points leaves of their differences
        assert error < (4 * EPS if dtype == torch.float32 else 1e-13 + 1e-16 / spread)


@pytest.mark.parametrize('radius', [12.0, 20.0, 30.0])
def test_points_that_are_close_together_far_out_decline_and_are_exact(radius):
    x = lorentz.expmap0(radius * torch.ones(6, 4) / 2, 1.0)
    assert centroids.in_few_passes(x, None, 1.0) is None
    assert_close(lorentz.centroid(x, None, 1.0), x[0], rtol=1e-6, atol=0)


def test_far_out_where_values_cannot_be_read():
    x = far_points(25.0, 1e-6, torch.float32, 0)
    many, weight = x.expand(3, 6, 5), randn(3, 6, seed=3).abs().float()
    expected = lorentz.centroid(many, weight, 1.0)
    found = torch.vmap(lambda y, w: lorentz.centroid(y, w, 1.0))(many, weight)
    assert_close(found, expected, rtol=1e-6, atol=0)
    # many weights of one set: read, and so taken apart
    assert_close(lorentz.centroid(x, weight, 1.0), expected, rtol=1e-6, atol=0)


def test_gradients_of_points_that_are_close_together_far_out():
    # in the frame of the centroid, where the points are near the origin
    x = lorentz.expmap0(randn(6, 4), 1.0)
    weight = randn(6, seed=1).abs()
    far = lorentz.expmap0(vectors_of_length(18.0, 4, seed=2), 1.0)
    pull = randn(4, seed=3)

    def moved(y, w):
        return (lorentz.centroid(lorentz.translate(far, y, 1.0), w, 1.0) / far.norm() * pull).sum()

    def mean(y, w):
        return (lorentz.translate(far, lorentz.centroid(y, w, 1.0), 1.0) / far.norm() * pull).sum()

    x, weight = x.requires_grad_(), weight.requires_grad_()
    found = torch.autograd.grad(moved(x, weight), (x, weight))
    wanted = torch.autograd.grad(mean(x, weight), (x, weight))
    for one, other in zip(found, wanted):
        assert_close(one, other, rtol=1e-5, atol=1e-6 * other.abs().max())


def test_a_second_derivative_is_that_of_the_formula():
    x = points('one side').requires_grad_()
    weight = randn(7, 6, seed=3).abs().float().requires_grad_()

    def second(function, *inputs):
        first = torch.autograd.grad(function(*inputs).square().sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), inputs)

    found = second(lambda x, w: lorentz.centroid(x, w, C), x, weight)
    wide = [t.detach().double().requires_grad_() for t in (x, weight)]
    wanted = second(lambda x, w: centroids.formula(x, w, C), *wide)
    for one, other in zip(found, wanted):
        assert_close(one.double(), other, rtol=1e-4, atol=1e-5 * other.abs().max())


@pytest.mark.parametrize(
    'change',
    [
        lambda x, w: (x.double(), w, C),
        lambda x, w: (x, w[:1], C),
        lambda x, w: (x, 0 * w, C),
        lambda x, w: (x, w, torch.tensor(C)),
        lambda x, w: (x[:0], w[:0], C),
        lambda x, w: (x.to('meta'), w.to('meta'), C),
        lambda x, w: (torch.full_like(x, torch.nan), w, C),
    ],
    ids=['float64', 'broadcast', 'no weight', 'tensor', 'empty', 'device', 'nan'],
)
def test_other_input_declines(change):
    x, weight = points('one side'), randn(7, 6, seed=3).abs().float()
    assert centroids.in_few_passes(x, weight, C) is not None
    assert centroids.in_few_passes(*change(x, weight)) is None


def test_weights_are_checked():
    x = points('near')
    with pytest.raises(ValueError, match=r'weight must not be negative, got -1'):
        lorentz.centroid(x, torch.tensor([1.0, 1, -1, 1, 1, 1]), C)
    with pytest.raises(ValueError, match=r'must broadcast with \(7, 6\).*got shape \(5,\)'):
        lorentz.centroid(x, torch.ones(5), C)
    with pytest.raises(TypeError, match='weight must be a tensor, got list'):
        lorentz.centroid(x, [1.0] * 6, C)
    with pytest.raises(ValueError, match=r'\(\.\.\., n, d\), got \(5,\)'):
        lorentz.centroid(x[0, 0], None, C)
