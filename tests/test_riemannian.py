"""Riemannian optimizers of ambient points."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.testing import assert_close

from hyper_mm.ops import lorentz
from hyper_mm.riemannian import (
    AmbientEmbedding,
    ambient_parameter,
    riemannian_optimizer,
)

pytest.importorskip('geoopt')


@pytest.mark.parametrize('c', [0.5, 2.0])
def test_a_step_of_sgd_follows_the_geodesic(c):
    """Along the negative Riemannian gradient of half the squared distance: to the other point."""
    torch.manual_seed(0)
    x, y = (lorentz.expmap0(torch.randn(4, 3).double(), c) for _ in range(2))
    point = ambient_parameter(x, c)
    optimizer = riemannian_optimizer([point], 'sgd', 0.25)
    (lorentz.dist(lorentz.from_ambient(point), y, c).square() / 2).sum().backward()
    optimizer.step()
    # the gradient of space components is that of the ambient function that ignores the time
    moved = lorentz.from_ambient(point.detach())
    assert_close(moved, lorentz.geodesic(x, y, 0.25, c), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('kind', ['adam', 'sgd'])
def test_points_stay_on_the_hyperboloid(kind):
    torch.manual_seed(0)
    model = AmbientEmbedding(6, 3, c=0.5, spread=0.5)
    optimizer = riemannian_optimizer(model.parameters(), kind, 0.05)
    first = model.pairwise().sum().item()
    for _ in range(30):
        optimizer.zero_grad()
        model.pairwise().sum().backward()
        optimizer.step()
    x = model().detach()
    assert model.pairwise().sum().item() < first
    assert_close(model.points.detach()[:, 0], lorentz.time(x, 0.5), rtol=1e-5, atol=1e-6)
    assert model(torch.tensor([2, 1])).shape == (2, 3)


def test_refuses():
    with pytest.raises(ValueError, match="kind must be .*got 'adagrad'"):
        riemannian_optimizer([], 'adagrad')
    with pytest.raises(ValueError, match='lr must be positive'):
        riemannian_optimizer([], lr=0.0)
    with pytest.raises(ValueError, match='c must be positive'):
        AmbientEmbedding(3, 2, c=-1.0)


def test_without_geoopt(monkeypatch):
    monkeypatch.setitem(sys.modules, 'geoopt', None)
    with pytest.raises(ModuleNotFoundError, match='pip install geoopt'):
        ambient_parameter(torch.zeros(2, 3))
