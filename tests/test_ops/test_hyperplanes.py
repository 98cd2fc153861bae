"""Distances to hyperplanes."""

from __future__ import annotations

import math

import mpmath as mp
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from hyper_mm.ops import hyperplanes as H
from hyper_mm.ops import lorentz as L
from hyper_mm.ops import poincare as P

from . import exact
from .conftest import FLOATS, curvatures, randn, rotations, vectors


def point(v, c):
    return L.expmap0(v / math.sqrt(c), c)


@given(vectors(1e-3, 8), st.floats(-3, 3), st.floats(-5, 5), curvatures)
def test_along_the_normal_it_is_the_difference_of_radii(w, offset, r, c):
    x = L.expmap0(r * w / w.norm(), c)
    value = H.lorentz_hyperplane_dist(x, w, offset, c)
    assert_close(value.item(), r - offset, rtol=1e-7, atol=1e-9)


@given(vectors(1e-3, 5), vectors(1e-3, 5), rotations, st.floats(-2, 2), curvatures)
def test_is_the_least_distance_to_points_of_the_plane(u, w, rotation, offset, c):
    """The foot of the perpendicular is on the plane, at that distance, and no other is nearer."""
    x, axis = point(u, c), w / w.norm()
    value = H.lorentz_hyperplane_dist(x, w, offset, c)
    middle = L.expmap0(offset * axis, c)
    away = L.logmap0(L.translate(-middle, x, c), c)
    # mirror image: reflect across the plane through the origin, and move back
    mirrored = L.expmap0(away - 2 * (away @ axis) * axis, c)
    other = L.translate(middle, mirrored, c)
    assert_close(L.dist(x, other, c), 2 * value.abs(), rtol=1e-6, atol=1e-7)
    foot = L.geodesic(x, other, 0.5, c)
    assert H.lorentz_hyperplane_dist(foot, w, offset, c).abs() < 1e-6
    side = rotation @ axis
    side = side - (side @ axis) * axis
    on_plane = L.translate(middle, L.expmap0(side, c), c)
    assert H.lorentz_hyperplane_dist(on_plane, w, offset, c).abs() < 1e-7
    assert L.dist(x, on_plane, c) > value.abs() - 1e-7


@given(st.integers(0, 99), curvatures)
def test_forms_agree(seed, c):
    x, w, o = point(randn(6, 4, seed=seed), c), randn(3, 4, seed=seed + 1), randn(3, seed=seed + 2)
    expected = H.lorentz_hyperplane_dist(x[:, None], w, o, c)
    p = L.to_poincare(x, c)
    assert_close(H.lorentz_pairwise_hyperplane_dist(x, w, o, c), expected)
    assert_close(H.poincare_hyperplane_dist(p[:, None], w, o, c), expected)
    assert_close(H.poincare_pairwise_hyperplane_dist(p, w, o, c), expected)
    axis = w / w.norm(dim=-1, keepdim=True)
    through = P.expmap0(o[:, None] / 2 * axis, c)
    assert_close(H.gyroplane_dist(p[:, None], through, P.transport0(through, w, c), c), expected)


@given(vectors(1e-3, 4), vectors(1e-3, 4), vectors(1e-3, 4), curvatures)
def test_gyroplane_as_of_the_textbook(u, v, a, c):
    x, p = (L.to_poincare(point(t, c), c) for t in (u, v))
    z = P.mobius_add(-p, x, c)
    ratio = 2 * math.sqrt(c) * (z @ a) / ((1 - c * z @ z) * a.norm())
    assert_close(
        H.gyroplane_dist(x, p, a, c), torch.asinh(ratio) / math.sqrt(c), rtol=1e-6, atol=1e-8
    )
    assert H.gyroplane_dist(p, p, a, c) == 0


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('radius', [1e-4, 1.0, 6.0, 16.0, 38.0])
def test_against_exact_arithmetic(dtype, radius):
    with mp.workdps(exact.DIGITS):
        for u, w in exact.directions(dtype):
            x, w, o = L.expmap0(radius * u, 1.0).to(dtype), w.to(dtype), 0.7
            a, b = exact.numbers(x), exact.numbers(w)
            along = mp.cosh(o) * exact.dot(a, b) / exact.norm(b)
            expected = mp.asinh(along - mp.sinh(o) * exact.time(a))
            limit = 4 * torch.finfo(dtype).eps + 1e4 * torch.finfo(torch.float64).eps
            assert exact.error(H.lorentz_hyperplane_dist(x, w, o, 1.0), expected) < limit


@pytest.mark.parametrize('offset', ['1', True, None, torch.tensor(1)])
def test_refuses_what_is_no_offset(offset):
    with pytest.raises(TypeError, match='offset must be a number or a floating point tensor, got'):
        H.lorentz_hyperplane_dist(randn(2, 3), randn(2, 3), offset, 1.0)


def test_a_normal_of_length_zero_is_no_plane_but_finite():
    x, w = point(randn(3, 4), 1.0), torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    value = H.lorentz_hyperplane_dist(x, w, 0.0, 1.0)
    assert (value == 0).all()
    assert torch.autograd.grad(value.sum(), w)[0].isfinite().all()


@pytest.mark.parametrize(
    ('ball', 'radius'),  # float32 holds no points of the ball farther out
    [(False, 1.0), (False, 6.0), (False, 16.0), (False, 38.0), (True, 1.0), (True, 6.0)],
)
def test_one_set_of_hyperplanes_is_as_precise_as_many(ball, radius):
    """They take another path; both sum in float64, values and gradients."""
    of = H.poincare_pairwise_hyperplane_dist if ball else H.lorentz_pairwise_hyperplane_dist
    u = torch.nn.functional.normalize(randn(9, 4, seed=1), dim=-1)
    x = point(radius * u, 1.3).float()
    inputs = [
        (P.expmap0(radius / 2 * u, 1.0) / 1.3**0.5).float() if ball else x,
        randn(3, 4, seed=2).float(),
        randn(3, seed=3).float(),
    ]
    one = [t.requires_grad_() for t in inputs]
    many = [t.detach().double().expand(1, *t.shape).requires_grad_() for t in inputs]
    value, expected = of(*one, 1.3), of(*many, 1.3)[0]
    # of a plane that is near, what float64 sums leave of the time of the point
    assert_close(value.double(), expected, rtol=2e-7, atol=1e-15 * math.exp(radius))
    pull = randn(9, 3, seed=4)
    found = torch.autograd.grad((value * pull.float()).sum(), one)
    wanted = torch.autograd.grad((expected * pull.float()).sum(), many)
    for a, b in zip(found, wanted):
        assert_close(a.double(), b[0], rtol=1e-6, atol=1e-6 * b.abs().max())


def test_one_set_of_hyperplanes_twice_differentiated():
    inputs = [randn(4, 3, seed=1), randn(2, 3, seed=2), randn(2, seed=3)]
    assert torch.autograd.gradgradcheck(
        lambda *t: H.lorentz_pairwise_hyperplane_dist(*t, 0.7), [t.requires_grad_() for t in inputs]
    )


def test_outside_the_ball_all_distances_are_nan():
    p = torch.tensor([[0.5, 0.0], [1.0, 0.2]])
    value = H.poincare_pairwise_hyperplane_dist(p, torch.eye(2), torch.zeros(2), 1.0)
    assert value[0].isfinite().all() and value[1].isnan().all()


PAIRS = (H.lorentz_pairwise_hyperplane_dist, H.poincare_pairwise_hyperplane_dist)


@pytest.mark.parametrize('function', PAIRS)
def test_sets_of_hyperplanes_broadcast(function):
    """Normals of one shape and offsets of another, as far as their last dimensions agree."""
    x, normal, offset = randn(2, 5, 4) / 8, randn(2, 3, 4, seed=1), randn(2, 3, seed=2)
    for w, o in ((normal, offset[0]), (normal[0], offset), (normal[:1], offset)):
        found = function(x, w, o, 0.7)
        for k in range(2):
            parts = (t.expand(2, *t.shape[-n:])[k] for t, n in ((w, 2), (o, 1)))
            assert_close(found[k], function(x[k], *parts, 0.7))


@pytest.mark.parametrize('function', PAIRS)
def test_shapes_of_sets_are_checked(function):
    x, normal = randn(5, 4) / 8, randn(3, 4, seed=1)
    for shape in ((), (1,), (2,), (3, 1)):
        with pytest.raises(ValueError, match=r'offset must be of shape \(..., 3\)'):
            function(x, normal, torch.zeros(shape), 0.7)
    with pytest.raises(ValueError, match=r'points must be of shape \(..., n, d\), got \(4,\)'):
        function(x, normal[0], torch.zeros(1), 0.7)
