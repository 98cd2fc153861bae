"""Centroids with gradients of their own, against those of the formula in float64."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from hyper_mm.ops import centroids, lorentz

from .conftest import randn

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
    value = centroids.centroid(lorentz._centroid, x, weight, C)
    wide = [t.detach().double().requires_grad_() for t in leaves]
    expected = lorentz._centroid(wide[0], wide[1] if weighted else None, C)
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
        assert torch.equal(centroids.centroid(lorentz._centroid, x, weight, C), value)


def test_points_that_are_close_together_far_out_decline():
    x = lorentz.expmap0(12 * torch.ones(6, 4) / 2, 1.0)
    assert centroids.centroid(lorentz._centroid, x, None, 1.0) is None
    assert_close(lorentz.centroid(x, None, 1.0), x[0], rtol=1e-5, atol=0)


def test_a_second_derivative_is_that_of_the_formula():
    x = points('one side').requires_grad_()
    weight = randn(7, 6, seed=3).abs().float().requires_grad_()

    def second(function, *inputs):
        first = torch.autograd.grad(function(*inputs).square().sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), inputs)

    found = second(lambda x, w: lorentz.centroid(x, w, C), x, weight)
    wide = [t.detach().double().requires_grad_() for t in (x, weight)]
    wanted = second(lambda x, w: lorentz._centroid(x, w, C), *wide)
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
    assert centroids.centroid(lorentz._centroid, x, weight, C) is not None
    assert centroids.centroid(lorentz._centroid, *change(x, weight)) is None


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
