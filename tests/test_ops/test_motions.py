"""Transport, translations and geodesics of the hyperboloid."""

from __future__ import annotations

import math

import mpmath as mp
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from hyper_mm.ops import lorentz as L
from hyper_mm.ops import poincare as P

from ..helpers.golden import by_row
from . import exact
from .conftest import FLOATS, curvatures, randn, vectors, vectors_of_length


def length(x, v, c):
    return (v.square().sum(-1) - ((x * v).sum(-1) / L.time(x, c)).square()).sqrt()


def point(v, c):
    return L.expmap0(v / math.sqrt(c), c)


class TestTransport:
    @given(vectors(1e-3, 4), vectors(1e-3, 4), vectors(1e-3, 4), curvatures)
    def test_keeps_lengths_and_has_an_inverse(self, u, v, w, c):
        x, y = point(u, c), point(v, c)
        w = L.transport0(x, w, c)
        moved = L.transport(x, y, w, c)
        assert_close(length(y, moved, c), length(x, w, c), rtol=1e-7, atol=0)
        assert by_row(L.transport(y, x, moved, c), w) < 1e-9

    @given(vectors(1e-3, 5), vectors(1e-3, 5), curvatures)
    def test_carries_the_velocity_of_the_geodesic(self, u, v, c):
        """It takes log_x(y) to -log_y(x)."""
        x, y = point(u, c), point(v, c)
        there = L.transport(x, y, L.logmap(x, y, c), c)
        assert_close(there, -L.logmap(y, x, c), rtol=1e-6, atol=1e-7)

    @given(vectors(1e-3, 6), vectors(1e-3, 6), curvatures)
    def test_at_the_origin_it_is_that_of_the_origin(self, u, w, c):
        x, zero = point(u, c), torch.zeros_like(u)
        moved = L.transport0(x, w, c)
        assert by_row(L.transport(zero, x, w, c), moved) < 1e-12
        assert by_row(L.transport_to0(x, moved, c), w) < 1e-9
        assert by_row(L.transport(x, zero, moved, c), w) < 1e-9

    def test_to_the_point_itself_changes_nothing(self):
        x, v = point(vectors_of_length(9.0, 5, 4), 1.0), randn(5, 4)
        assert torch.equal(L.transport(x, x, v, 1.0), v)


class TestTranslate:
    @given(vectors(1e-3, 4), vectors(1e-3, 4), vectors(1e-3, 4), curvatures)
    def test_is_an_isometry_with_an_inverse(self, u, v, w, c):
        x, y, z = point(u, c), point(v, c), point(w, c)
        a, b = L.translate(x, y, c), L.translate(x, z, c)
        assert_close(L.dist(a, b, c), L.dist(y, z, c), rtol=1e-6, atol=1e-8)
        assert L.dist(L.translate(-x, a, c), y, c) < 1e-7

    @given(vectors(1e-3, 4), vectors(1e-3, 4), curvatures)
    def test_takes_the_origin_to_the_point_along_the_exponential_map(self, u, w, c):
        x, zero = point(u, c), torch.zeros_like(u)
        assert_close(L.translate(x, zero, c), x)
        assert_close(L.translate(-x, x, c), zero, rtol=0, atol=1e-12 * float(1 + x.norm()))
        moved = L.expmap(x, L.transport0(x, w, c), c)
        assert by_row(L.translate(x, L.expmap0(w, c), c), moved) < 1e-9

    @given(vectors(1e-3, 4), vectors(1e-3, 4), curvatures)
    def test_is_the_addition_of_the_ball(self, u, v, c):
        x, y = point(u, c), point(v, c)
        added = P.mobius_add(L.to_poincare(x, c), L.to_poincare(y, c), c)
        assert_close(L.to_poincare(L.translate(x, y, c), c), added, rtol=1e-8, atol=1e-10)


class TestGeodesic:
    @given(vectors(1e-3, 6), vectors(1e-3, 6), st.floats(-0.5, 1.5), curvatures)
    def test_divides_the_distance(self, u, v, t, c):
        x, y = point(u, c), point(v, c)
        whole, z = L.dist(x, y, c), L.geodesic(x, y, t, c)
        assert_close(L.dist(x, z, c), abs(t) * whole, rtol=1e-6, atol=1e-6)
        assert_close(L.dist(z, y, c), abs(1 - t) * whole, rtol=1e-6, atol=1e-6)

    def test_many_parts_at_once(self):
        x, y = point(randn(3, 4), 1.0), point(randn(3, 4, seed=1), 1.0)
        t = torch.linspace(0, 1, 5).double()
        z = L.geodesic(x[:, None], y[:, None], t, 1.0)
        assert z.shape == (3, 5, 4)
        assert_close(z[:, 0], x)
        assert_close(z[:, -1], y)
        assert_close(z[:, 2], L.centroid(torch.stack([x, y], 1)))

    @pytest.mark.parametrize('t', ['1', True, torch.tensor(1), None])
    def test_refuses_what_is_no_part(self, t):
        with pytest.raises(TypeError, match='t must be a number or a floating point tensor, got'):
            L.geodesic(randn(2, 3), randn(2, 3), t, 1.0)

    @pytest.mark.parametrize('t', [float('nan'), float('inf')])
    @pytest.mark.parametrize('dtype', FLOATS)
    def test_refuses_what_is_not_finite(self, t, dtype):
        x = 0.1 * randn(2, 3).to(dtype)
        for space in (L, P):
            with pytest.raises(ValueError, match=f't must be finite, got {t}'):
                space.geodesic(x, x, t, 1.0)


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize(('first', 'second'), [(1e-3, 1e-3), (1, 1), (4, 4), (9, 3), (1, 30)])
def test_against_exact_arithmetic(dtype, first, second):
    """Errors of a few roundings of the largest number that goes in, times its condition."""
    with mp.workdps(exact.DIGITS):
        for u, w in exact.directions(dtype):
            x, y = (L.expmap0(r * d, 1.0).to(dtype) for r, d in ((first, u), (second, w)))
            v = L.transport0(x, 0.7 * w, 1.0).to(dtype)
            a, b, t = (exact.numbers(z) for z in (x, y, v))
            cosh, v0 = exact.time(a) * exact.time(b) - exact.dot(a, b), exact.dot(a, t)
            v0 = v0 / exact.time(a)
            share = (exact.dot(b, t) - exact.time(b) * v0) / (1 + cosh)
            moved = [q + share * (m + n) for q, m, n in zip(t, a, b)]
            back = [q - v0 / (1 + exact.time(a)) * m for q, m in zip(t, a)]
            factor = exact.time(b) + exact.dot(a, b) / (1 + exact.time(a))
            shifted = [n + factor * m for n, m in zip(b, a)]
            r, s = mp.acosh(cosh), mp.mpf(0.3)
            part = [
                (mp.sinh((1 - s) * r) * m + mp.sinh(s * r) * n) / mp.sinh(r) for m, n in zip(a, b)
            ]
            eps = 4 * torch.finfo(dtype).eps
            wide = 64 * torch.finfo(torch.float64).eps
            condition = exact.time(a) ** 2  # of a rounding of x or v, in float64
            for value, expected in (
                (L.transport(x, y, v, 1.0), moved),
                (L.transport_to0(x, v, 1.0), back),
                (L.translate(x, y, 1.0), shifted),
                (L.geodesic(x, y, 0.3, 1.0), part),
            ):
                size = exact.norm(expected) * eps + wide * condition * exact.norm(t)
                size += wide * condition * exact.norm(b)
                assert exact.error(value, expected, size) < 1
