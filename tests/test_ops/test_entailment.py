"""Angles and cones: textbook formulas, and one geometry in every model."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.testing import assert_close

from hyper_mm.ops import entailment as E
from hyper_mm.ops import lorentz as L

from ..helpers.golden import absolute
from .conftest import FLOATS, curvatures, radii, randn, rotations, vectors, vectors_of_length


def arccos_angle(x, y, c):
    """The exterior angle by the textbook formula (Desai et al., MERU)."""
    product = c * L.inner(x, y, c)
    top = L.time(y, c) + L.time(x, c) * product
    return torch.arccos(top / (x.norm(dim=-1) * (product.square() - 1).sqrt()))


class TestExteriorAngle:
    @given(vectors(0.1, 5), vectors(0.1, 5), curvatures)
    def test_arccos_formula(self, u, v, c):
        x, y = L.expmap0(u / math.sqrt(c), c), L.expmap0(v / math.sqrt(c), c)
        angle = L.exterior_angle(x, y, c)
        # arccos itself has no digits near 0 and pi, nor for close points
        assume(0.1 < angle < math.pi - 0.1)
        assume(L.dist(x, y, c) * math.sqrt(c) > 0.1)
        assert_close(angle, arccos_angle(x, y, c), rtol=1e-6, atol=0)

    @given(vectors(1e-3, 6), vectors(1e-3, 6), curvatures)
    def test_is_the_angle_of_the_logarithms(self, u, v, c):
        """Between the continued ray and the way to y, both tangent vectors at x."""
        x, y = L.expmap0(u / math.sqrt(c), c), L.expmap0(v / math.sqrt(c), c)
        assume(L.dist(x, y, c) * math.sqrt(c) > 1e-3)
        ray = L.transport0(x, u, c)
        way = L.logmap(x, y, c)
        ray, way = (torch.cat([(t @ x / L.time(x, c)).view(1), t]) for t in (ray, way))

        def product(a, b):
            return (a * b)[1:].sum() - a[0] * b[0]

        cosine = product(ray, way) / (product(ray, ray) * product(way, way)).sqrt()
        assert_close(torch.cos(L.exterior_angle(x, y, c)), cosine, rtol=0, atol=1e-6)

    @given(vectors(1e-3, 6), vectors(1e-3, 6), curvatures)
    def test_angles_of_a_triangle_sum_to_less_than_pi(self, u, v, c):
        x, y = L.expmap0(u / math.sqrt(c), c), L.expmap0(v / math.sqrt(c), c)
        assume(L.dist(x, y, c) * math.sqrt(c) > 1e-3)
        at_origin = torch.arccos(((u @ v) / (u.norm() * v.norm())).clamp(-1, 1))
        at_x, at_y = (math.pi - L.exterior_angle(*p, c) for p in ((x, y), (y, x)))
        assert at_origin + at_x + at_y <= math.pi + 1e-6

    @given(vectors(1e-3, 6), vectors(1e-3, 6), rotations, curvatures)
    def test_rotations_keep_it(self, u, v, rotation, c):
        x, y = L.expmap0(u / math.sqrt(c), c), L.expmap0(v / math.sqrt(c), c)
        moved = L.exterior_angle(x @ rotation.T, y @ rotation.T, c)
        assert_close(moved, L.exterior_angle(x, y, c), rtol=0, atol=1e-6)

    @given(vectors(1e-3, 6), radii(1e-2, 1e2), curvatures)
    def test_on_a_ray(self, u, factor, c):
        assume(abs(factor - 1) > 1e-2)
        x = L.expmap0(u / math.sqrt(c), c)
        expected = 0.0 if factor > 1 else math.pi
        assert absolute(L.exterior_angle(x, factor * x, c), torch.tensor(expected)) < 1e-6
        assert absolute(L.exterior_angle(x, -factor * x, c), torch.tensor(math.pi)) < 1e-6

    @pytest.mark.parametrize('dtype', FLOATS)
    @pytest.mark.parametrize('radius', [1e-6, 1e-4, 1.0, 6.0, 12.0])
    def test_coincident_points(self, dtype, radius):
        x = L.expmap0(vectors_of_length(radius, 50, 6), 1.0).to(dtype)
        y = x.clone().requires_grad_()
        x.requires_grad_()
        angle = L.exterior_angle(x, y, 1.0)
        assert (angle == 0).all()
        for grad in torch.autograd.grad(angle.sum(), (x, y)):
            assert (grad == 0).all()

    def test_apex_at_the_origin(self):
        x, y = torch.zeros(3, 4, requires_grad=True), randn(3, 4).float()
        angle = L.exterior_angle(x, y, 1.0)
        assert_close(angle, torch.full((3,), math.pi / 2))
        assert (torch.autograd.grad(angle.sum(), x)[0] == 0).all()

    @pytest.mark.parametrize('radius', [1e-3, 1.0, 3.0])
    @pytest.mark.parametrize('tilt', [1e-6, 1e-3, 0.1])
    def test_small_angles_in_float32(self, radius, tilt):
        """Behind x and a little off the ray, where arccos returns 0 or noise."""
        u = vectors_of_length(radius, 100, 6)
        x = L.expmap0(u, 1.0).float()
        y = L.expmap0(2 * u + tilt * vectors_of_length(radius, 100, 6, seed=1), 1.0).float()
        expected = L.exterior_angle(x.double(), y.double(), 1.0)
        assert absolute(L.exterior_angle(x, y, 1.0), expected) < 1e-6
        assert expected.max() > 0


class TestHalfAperture:
    @given(vectors(1e-3, 10), curvatures, st.floats(0.01, 1.0))
    def test_formula(self, u, c, min_radius):
        x = L.expmap0(u / math.sqrt(c), c)
        sine = (2 * min_radius / (math.sqrt(c) * x.norm())).clamp_max(1)
        value = L.half_aperture(x, c, min_radius)
        assert_close(torch.sin(value), sine, rtol=1e-12, atol=0)

    @given(vectors(0.3, 10), st.floats(1.01, 10), curvatures)
    def test_narrows_outwards(self, u, factor, c):
        x = L.expmap0(u, 1.0) / math.sqrt(c)
        assert L.half_aperture(factor * x, c) < L.half_aperture(x, c)

    @pytest.mark.parametrize('dtype', FLOATS)
    def test_near_the_origin_it_is_the_half_space(self, dtype):
        x = vectors_of_length(0.19, 4, 3).to(dtype).requires_grad_()
        value = L.half_aperture(x, 1.0)
        assert_close(value, torch.full_like(value, math.pi / 2))
        assert (torch.autograd.grad(value.sum(), x)[0] == 0).all()

    @pytest.mark.parametrize(
        'aperture',
        [
            lambda x, k: L.half_aperture(x, 1.0, k),
            lambda x, k: E.poincare_half_aperture(x, 1.0, k),
            lambda x, k: E.euclidean_half_aperture(x, None, k),
        ],
    )
    @pytest.mark.parametrize('min_radius', [0.0, -0.1])
    def test_refuses_a_radius_out_of_range(self, aperture, min_radius):
        with pytest.raises(ValueError, match='min_radius must be positive, got'):
            aperture(randn(2, 3) / 10, min_radius)


class TestModelsAgree:
    @given(vectors(1e-3, 6), vectors(1e-3, 6), curvatures)
    def test_exterior_angle(self, u, v, c):
        x, y = L.expmap0(u / math.sqrt(c), c), L.expmap0(v / math.sqrt(c), c)
        value = E.poincare_exterior_angle(L.to_poincare(x, c), L.to_poincare(y, c), c)
        assert_close(value, E.lorentz_exterior_angle(x, y, c), rtol=0, atol=1e-5)

    @given(vectors(1e-3, 6), curvatures, st.floats(0.01, 0.5))
    def test_half_aperture(self, u, c, k):
        x = L.expmap0(u / math.sqrt(c), c)
        p = L.to_poincare(x, c)
        value = E.poincare_half_aperture(p, c, k)
        assert_close(value, E.lorentz_half_aperture(x, c, k), rtol=1e-6, atol=0)
        square = c * p.square().sum()
        ganea = torch.asin((k * (1 - square) / square.sqrt()).clamp_max(1))
        assert_close(value, ganea, rtol=1e-6, atol=1e-7)

    @given(vectors(0.1, 1), vectors(0.1, 1))
    def test_small_triangles_are_flat(self, u, v):
        """Near the origin the hyperbolic angle is the Euclidean one."""
        assume((u - v).norm() > 0.01)
        flat = E.euclidean_exterior_angle(u, v)
        assert_close(E.lorentz_exterior_angle(1e-4 * u, 1e-4 * v, 1.0), flat, rtol=0, atol=1e-5)


class TestEuclidean:
    @given(vectors(1e-3, 10), vectors(1e-3, 10), vectors(1e-3, 10))
    def test_exterior_angle_formula(self, x, y, root):
        a, b = x - root, y - x
        assume(min(a.norm(), b.norm()) > 1e-3)
        value = E.euclidean_exterior_angle(x, y, root)
        assert_close(torch.cos(value), a @ b / (a.norm() * b.norm()), rtol=0, atol=1e-9)
        assert_close(value, E.euclidean_exterior_angle(a, y - root), rtol=0, atol=1e-6)

    @given(vectors(1e-3, 10), vectors(1e-3, 10), st.floats(0.01, 1))
    def test_half_aperture_formula(self, x, root, k):
        value = E.euclidean_half_aperture(x, root, k)
        sine = (k / (x - root).norm()).clamp_max(1)
        assert_close(torch.sin(value), sine, rtol=1e-9, atol=0)

    @pytest.mark.parametrize('dtype', FLOATS)
    def test_degenerate_triangles(self, dtype):
        x = randn(3, 4).to(dtype).requires_grad_()
        for y, root in ((x, None), (2 * x, x), (x, x)):
            angle = E.euclidean_exterior_angle(x, y, root)
            assert_close(angle, torch.full_like(angle, math.pi / 2))
            assert torch.autograd.grad(angle.sum(), x)[0].isfinite().all()
        aperture = E.euclidean_half_aperture(x, x)
        assert_close(aperture, torch.full_like(aperture, math.pi / 2))


class TestConeEnergy:
    @given(vectors(0.5, 6), vectors(0.1, 6), curvatures, st.floats(0.1, 2.0))
    def test_is_zero_exactly_inside_the_cone(self, u, v, c, scale):
        x, y = L.expmap0(u / math.sqrt(c), c), L.expmap0(v / math.sqrt(c), c)
        angle, aperture = L.exterior_angle(x, y, c), L.half_aperture(x, c)
        energy = E.cone_energy(angle, aperture, scale)
        assert energy >= 0
        assert (energy == 0) == (angle <= scale * aperture)
        assert_close(energy, (angle - scale * aperture).clamp_min(0))

    @given(vectors(0.5, 3), st.floats(1.1, 5), curvatures)
    def test_cones_are_nested(self, u, factor, c):
        """Whatever a point further out on the ray entails, the nearer point entails."""
        x = L.expmap0(u / math.sqrt(c), c)
        out = factor * x
        turned = out + 0.02 * out.norm() * vectors_of_length(1.0, *x.shape, seed=3)
        y = L.expmap(out, L.transport0(out, turned / math.sqrt(c), c), c)
        inside_far = E.cone_energy(L.exterior_angle(out, y, c), L.half_aperture(out, c)) == 0
        if inside_far:
            assert E.cone_energy(L.exterior_angle(x, y, c), L.half_aperture(x, c)) == 0

    def test_pulls_a_violating_point_into_the_cone(self):
        x = L.expmap0(torch.tensor([1.0, 0, 0]), 1.0)
        v = torch.tensor([0.5, 1.5, 0.3], requires_grad=True)
        for _ in range(100):
            angle = L.exterior_angle(x, L.expmap0(v, 1.0), 1.0)
            energy = E.cone_energy(angle, L.half_aperture(x, 1.0))
            v.data -= 0.1 * torch.autograd.grad(energy, v)[0]
        assert energy == 0
