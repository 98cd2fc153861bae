"""Coordinates of other models and libraries."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from hyper_mm.ops import coordinates as K
from hyper_mm.ops import lorentz as L
from hyper_mm.ops import poincare as P

from .conftest import curvatures, randn, vectors


def point(v, c):
    return L.expmap0(v / math.sqrt(c), c)


@given(vectors(1e-3, 6), vectors(1e-3, 6), st.floats(0.1, 0.9), curvatures)
def test_geodesics_of_klein_are_straight(u, v, t, c):
    x, y = point(u, c), point(v, c)
    y = L.translate(x, y, c)  # never the point itself
    a, b, middle = (K.to_klein(z, c) for z in (x, y, L.geodesic(x, y, t, c)))
    share = ((middle - a) @ (b - a)) / ((b - a) @ (b - a))
    assert_close(middle, a + share * (b - a), rtol=1e-7, atol=1e-7)


@given(vectors(1e-6, 12), curvatures)
def test_coordinates_have_inverses(v, c):
    x = point(v, c)
    assert_close(K.from_klein(K.to_klein(x, c), c), x, rtol=1e-4, atol=0)
    assert torch.equal(K.from_ambient(K.to_ambient(x, c)), x)
    assert_close(L.from_poincare(L.to_poincare(x, c), c), x, rtol=1e-4, atol=0)


def test_outside_of_the_ball_klein_has_no_points():
    assert K.from_klein(torch.tensor([[0.5, 0.0], [1.0, 0.5]]), 1.0).isnan().all(-1).tolist() == [
        False,
        True,
    ]


@pytest.mark.parametrize('c', [0.3, 1.0, 2.5])
def test_distances_of_geoopt(c):
    geoopt = pytest.importorskip('geoopt')
    x, y = point(randn(6, 4), c), point(randn(6, 4, seed=1), c)
    (a, k), (b, _) = K.to_geoopt(x, c), K.to_geoopt(y, c)
    space = geoopt.Lorentz(k)
    assert_close(space.dist(a, b), L.dist(x, y, c), rtol=1e-6, atol=0)
    back, found = K.from_geoopt(a, k)
    assert torch.equal(back, x)
    assert found == pytest.approx(c)
    p, q = L.to_poincare(x, c), L.to_poincare(y, c)
    for ball in (geoopt.PoincareBall(c), geoopt.Stereographic(-c)):
        assert_close(ball.dist(p, q).double(), P.dist(p, q, c), rtol=1e-5, atol=0)


@pytest.mark.parametrize('c', [0.01, 0.3, 1.0, 40.0])
def test_distances_of_hypll(c):
    hypll = pytest.importorskip('hypll.manifolds.poincare_ball')
    tensors = pytest.importorskip('hypll.tensors')
    value = K.to_hypll_curvature(c)
    assert K.from_hypll_curvature(value) == pytest.approx(c, rel=1e-12)
    curvature = hypll.Curvature(value)
    assert float(curvature()) == pytest.approx(c, rel=1e-6)
    ball = hypll.PoincareBall(curvature)
    p, q = (L.to_poincare(point(0.5 * randn(6, 4, seed=s), c), c) for s in (0, 1))
    a, b = (tensors.ManifoldTensor(z, ball) for z in (p, q))
    assert_close(ball.dist(a, b).double(), P.dist(p, q, c), rtol=1e-5, atol=0)


def test_bad_curvatures_are_named():
    with pytest.raises(ValueError, match='k must be positive and finite, got -1'):
        K.from_geoopt(randn(2, 4), -1.0)
    with pytest.raises(ValueError, match='c must be positive and finite, got 0'):
        K.to_hypll_curvature(0.0)
