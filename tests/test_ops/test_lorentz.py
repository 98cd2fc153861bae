"""What the ops of the hyperboloid promise, as properties."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from hyper_mm.ops import lorentz as L
from hyper_mm.ops import poincare as P

from ..helpers.golden import by_row, relative
from .conftest import FLOATS, curvatures, radii, randn, rotations, vectors, vectors_of_length


def lorentz_norm(x, v, c):
    """Length of the tangent vector at ``x`` with space part ``v``."""
    time_part = (x * v).sum(-1) / L.time(x, c)
    return (v.square().sum(-1) - time_part.square()).sqrt()


def near_pair(radius, gap, n=200, dim=8):
    """Tangent vectors at the origin, ``gap`` apart at the given radius."""
    u = vectors_of_length(radius, n, dim, seed=1)
    return u, u + vectors_of_length(gap, n, dim, seed=2)


class TestOrigin:
    @given(vectors(), curvatures)
    def test_expmap0_keeps_the_distance(self, v, c):
        v = v / math.sqrt(c)
        x = L.expmap0(v, c)
        assert_close(L.dist0(x, c), v.norm(), rtol=1e-12, atol=0)
        assert_close(L.dist(torch.zeros_like(x), x, c), v.norm(), rtol=1e-12, atol=0)

    @given(vectors(), curvatures)
    def test_logmap0_inverts_expmap0(self, v, c):
        v = v / math.sqrt(c)
        assert by_row(L.logmap0(L.expmap0(v, c), c), v) < 1e-12

    @given(vectors(), curvatures)
    def test_logmap0_inverts_expmap0_in_float32(self, v, c):
        v = (v / math.sqrt(c)).float()
        assert by_row(L.logmap0(L.expmap0(v, c), c), v) < 3e-6

    @given(vectors(), curvatures)
    def test_points_are_on_the_hyperboloid(self, v, c):
        x = L.expmap0(v, c)
        assert (L.time(x, c) >= 1 / math.sqrt(c)).all()
        x0 = L.time(x, c)
        assert_close(x.square().sum(-1) / x0 + 1 / (c * x0), x0, rtol=1e-12, atol=0)

    @given(vectors(), curvatures)
    def test_maps_at_the_zero_point_are_those_at_the_origin(self, v, c):
        v, zero = v / math.sqrt(c), torch.zeros_like(v)
        x = L.expmap0(v, c)
        assert_close(L.expmap(zero, v, c), x, rtol=1e-12, atol=0)
        assert_close(L.logmap(zero, x, c), v, rtol=1e-11, atol=0)
        assert_close(L.transport0(zero, v, c), v, rtol=0, atol=0)

    @pytest.mark.parametrize('dtype', FLOATS)
    def test_time_keeps_the_dimension_on_request(self, dtype):
        x = randn(3, 4).to(dtype)
        assert_close(L.time(x, 0.5, keepdim=True).squeeze(-1), L.time(x, 0.5))
        column = torch.full((3, 1), 0.5, dtype=dtype)
        assert_close(L.time(x, column, keepdim=True), L.time(x, 0.5, keepdim=True))


class TestDistance:
    @given(vectors(), vectors(), curvatures)
    def test_symmetry(self, u, v, c):
        x, y = L.expmap0(u, 1.0) / math.sqrt(c), L.expmap0(v, 1.0) / math.sqrt(c)
        assert_close(L.dist(x, y, c), L.dist(y, x, c), rtol=1e-12, atol=0)
        assert_close(L.dist_tangent0(u, v, c), L.dist_tangent0(v, u, c), rtol=1e-12, atol=0)
        assert L.dist(x, x, c) == 0
        assert L.dist_tangent0(u, u, c) == 0

    @given(vectors(1e-3, 6), vectors(1e-3, 6), vectors(1e-3, 6), curvatures)
    def test_triangle_inequality(self, u, v, w, c):
        x, y, z = (L.expmap0(t / math.sqrt(c), c) for t in (u, v, w))
        assert L.dist(x, z, c) <= (L.dist(x, y, c) + L.dist(y, z, c)) * (1 + 1e-9)

    @given(vectors(), vectors(1e-6, 20), rotations, curvatures)
    def test_rotations_are_isometries(self, u, v, rotation, c):
        x, y = L.expmap0(u, 1.0) / math.sqrt(c), L.expmap0(v, 1.0) / math.sqrt(c)
        moved = L.dist(x @ rotation.T, y @ rotation.T, c)
        assert_close(moved, L.dist(x, y, c), rtol=1e-9, atol=0)

    @given(vectors(), curvatures)
    def test_opposite_vectors(self, v, c):
        v = v / math.sqrt(c)
        there, back = L.expmap0(v, c), L.expmap0(-v, c)
        assert_close(L.dist(there, back, c), 2 * v.norm(), rtol=1e-12, atol=0)
        assert_close(L.dist_tangent0(v, -v, c), 2 * v.norm(), rtol=1e-12, atol=0)

    @given(vectors(), radii(1e-6, 20), curvatures)
    def test_along_a_ray_it_is_the_difference_of_radii(self, u, s, c):
        v = s * u / u.norm()
        expected = (u.norm() - v.norm()).abs()
        if expected > 1e-3 * s:
            assert_close(L.dist_tangent0(u, v, c), expected, rtol=1e-11, atol=0)

    @given(vectors(0.1, 6), vectors(0.1, 6), curvatures)
    def test_textbook_formula(self, u, v, c):
        x, y = L.expmap0(u / math.sqrt(c), c), L.expmap0(v / math.sqrt(c), c)
        textbook = torch.acosh((-c * L.inner(x, y, c)).clamp_min(1)) / math.sqrt(c)
        if textbook * math.sqrt(c) > 0.1:
            assert_close(L.dist(x, y, c), textbook, rtol=1e-7, atol=0)

    @given(vectors(), vectors(), curvatures)
    def test_tangent_form_is_the_distance_of_the_points(self, u, v, c):
        u, v = u / math.sqrt(c), v / math.sqrt(c)
        points = L.dist(L.expmap0(u, c), L.expmap0(v, c), c)
        assert_close(L.dist_tangent0(u, v, c), points, rtol=1e-6, atol=0)

    @given(vectors(1e-3, 6), vectors(1e-3, 6), curvatures, curvatures)
    def test_rescale_scales_distances(self, u, v, c, other):
        x, y = L.expmap0(u / math.sqrt(c), c), L.expmap0(v / math.sqrt(c), c)
        moved = L.dist(L.rescale(x, c, other), L.rescale(y, c, other), other)
        assert_close(moved, L.dist(x, y, c) * math.sqrt(c / other), rtol=1e-9, atol=0)
        assert_close(L.rescale(L.rescale(x, c, other), other, c), x, rtol=1e-12, atol=0)

    def test_rescale_names_the_curvature_that_is_wrong(self):
        with pytest.raises(ValueError, match='c_out must be positive'):
            L.rescale(randn(2, 3), 1.0, -1.0)
        with pytest.raises(ValueError, match='c_in must be positive'):
            L.rescale(randn(2, 3), 0.0, 1.0)


class TestPrecision:
    """float32 against float64 from the same float32 inputs."""

    @pytest.mark.parametrize(
        ('radius', 'limit'), [(0.1, 6e-7), (1, 6e-7), (3, 6e-7), (6, 1e-5), (9, 5e-4)]
    )
    @pytest.mark.parametrize('gap', [1e-6, 1e-4, 1e-2, 0.1])
    def test_close_points(self, radius, limit, gap):
        u, v = near_pair(radius, gap * radius)
        x, y = L.expmap0(u, 1.0).float(), L.expmap0(v, 1.0).float()
        apart = (x != y).any(-1)
        x, y = x[apart], y[apart]
        assert relative(L.dist(x, y, 1.0), L.dist(x.double(), y.double(), 1.0)) < limit
        assert relative(L.dist(y, x, 1.0), L.dist(x.double(), y.double(), 1.0)) < limit

    @pytest.mark.parametrize(('radius', 'limit'), [(1, 3e-6), (3, 1.2e-5), (6, 3e-4)])
    @pytest.mark.parametrize('gap', [1e-4, 0.1, 1.0])
    def test_close_tangents(self, radius, limit, gap):
        u, v = (t.float() for t in near_pair(radius, gap))
        expected = L.dist_tangent0(u.double(), v.double(), 1.0)
        assert relative(L.dist_tangent0(u, v, 1.0), expected) < limit

    @pytest.mark.parametrize('low', [1e-3, 0.1, 1, 6, 12])
    @pytest.mark.parametrize('high', [1, 6, 12, 30])
    def test_points_of_unlike_radius(self, low, high):
        """Random directions: acute, obtuse, and one point far beyond the other."""
        x = L.expmap0(vectors_of_length(low, 200, 8, seed=1), 1.0).float()
        y = L.expmap0(vectors_of_length(high, 200, 8, seed=2), 1.0).float()
        expected = L.dist(x.double(), y.double(), 1.0)
        for value in (L.dist(x, y, 1.0), L.pairwise_dist(x, y, 1.0).diagonal()):
            assert relative(value, expected) < 2e-6

    @pytest.mark.parametrize('radius', [0.1, 1, 3, 6])
    @pytest.mark.parametrize('gap', [1e-3, 0.1, 3.0])
    def test_gradients(self, radius, gap):
        x, y = (L.expmap0(t, 1.0).float() for t in near_pair(radius, gap))
        low, high = x.clone().requires_grad_(), x.double().requires_grad_()
        grad = torch.autograd.grad(L.dist(low, y, 1.0).sum(), low)[0]
        expected = torch.autograd.grad(L.dist(high, y.double(), 1.0).sum(), high)[0]
        assert by_row(grad, expected) < 5e-6

    @pytest.mark.parametrize('radius', [1e-6, 1e-2, 1, 10, 20, 38])
    def test_gradients_of_logmap0(self, radius):
        x = L.expmap0(vectors_of_length(radius, 100, 8), 1.0).float()
        low, high = x.clone().requires_grad_(), x.double().requires_grad_()
        weight = randn(100, 8)
        grad = torch.autograd.grad((weight.float() * L.logmap0(low, 1.0)).sum(), low)[0]
        expected = torch.autograd.grad((weight * L.logmap0(high, 1.0)).sum(), high)[0]
        assert by_row(grad, expected) < 4e-5

    def test_unit_gradient_between_any_points(self):
        """A distance grows as fast as its argument moves away, at every order of magnitude."""
        for gap in (1e-12, 1e-6, 1e-3, 1.0, 5.0):
            u = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
            s = torch.tensor(gap, dtype=torch.float64, requires_grad=True)
            direction = L.transport0(u, torch.tensor([0.0, 0.6, 0.8]).double(), 1.0)
            value = L.dist(u, L.expmap(u, s * direction, 1.0), 1.0)
            assert_close(torch.autograd.grad(value, s)[0].item(), 1.0, rtol=1e-4, atol=0)


class TestPairwise:
    @given(st.integers(1, 6), st.integers(1, 6), curvatures, st.integers(0, 99))
    def test_pairs_are_the_elements(self, n, m, c, seed):
        u, v = randn(2, n, 4, seed=seed), randn(2, m, 4, seed=seed + 100)
        left, right = u.unsqueeze(-2), v.unsqueeze(-3)
        assert_close(L.pairwise_dist_tangent0(u, v, c), L.dist_tangent0(left, right, c))
        x, y = L.expmap0(u, c), L.expmap0(v, c)
        left, right = x.unsqueeze(-2), y.unsqueeze(-3)
        assert_close(L.pairwise_dist(x, y, c), L.dist(left, right, c))
        assert_close(L.pairwise_inner(x, y, c), L.inner(left, right, c))

    @given(vectors(1e-3, 12), vectors(1e-3, 12), curvatures)
    def test_tangent_form_is_the_distance_of_the_points(self, u, v, c):
        u, v = (torch.stack([u, -v, 0.1 * u]) / math.sqrt(c), torch.stack([v, u]) / math.sqrt(c))
        points = L.pairwise_dist(L.expmap0(u, c), L.expmap0(v, c), c)
        assert_close(L.pairwise_dist_tangent0(u, v, c), points, rtol=1e-7, atol=1e-7)

    @pytest.mark.parametrize('dtype', FLOATS)
    @pytest.mark.parametrize('radius', [1e-6, 1.0, 6.0, 12.0])
    def test_self_distance_is_zero(self, dtype, radius):
        v = vectors_of_length(radius, 50, 16).to(dtype).requires_grad_()
        x = L.expmap0(v, 1.0)
        for value in (L.pairwise_dist(x, x, 1.0), L.pairwise_dist_tangent0(v, v, 1.0)):
            assert (value.diagonal() == 0).all()
            assert (value + torch.eye(50) > 0).all()
            grad = torch.autograd.grad(value.diagonal().sum(), v, retain_graph=True)[0]
            assert (grad == 0).all()

    @pytest.mark.parametrize('scale', [1e-3, 1e-8, 1e-9, 1e-12, 1e-15])
    @pytest.mark.parametrize('dtype', FLOATS)
    def test_near_the_origin_space_is_flat(self, scale, dtype):
        """Distances and gradients keep their digits, however small the points are."""
        v = (scale * randn(6, 4)).to(dtype)
        expected = torch.cdist(v.double(), v.double(), compute_mode='donot_use_mm_for_euclid_dist')
        limit = 16 * torch.finfo(dtype).eps + scale**2
        for op in (L.pairwise_dist, L.pairwise_dist_tangent0):
            x = v.clone().requires_grad_()
            value = op(x, x.detach(), 1.0)
            assert relative(value, expected) < limit
            away = v.double()[:, None] - v.double()
            directions = (away / away.norm(dim=-1, keepdim=True)).nan_to_num(0)
            grad = torch.autograd.grad(value.sum(), x)[0]
            assert by_row(grad, directions.sum(1)) < 100 * limit

    @pytest.mark.parametrize('op', [L.pairwise_dist, L.pairwise_dist_tangent0])
    @pytest.mark.parametrize('radius', [30.0, 36.0, 38.0])
    def test_far_points_are_not_those_at_the_origin(self, op, radius):
        far, near = vectors_of_length(radius, 3, 4).float(), vectors_of_length(1e-3, 5, 4).float()
        if op is L.pairwise_dist:
            far, near = L.expmap0(far, 1.0), L.expmap0(near, 1.0)
        for value in (op(far, near, 1.0), op(near, far, 1.0)):
            assert_close(value, torch.full_like(value, radius), rtol=1e-4, atol=0)

    @pytest.mark.parametrize('op', [L.pairwise_dist, L.pairwise_dist_tangent0])
    def test_close_pairs_of_float64_under_vmap(self, op):
        """There the close pairs cannot be counted, and are mended all the same."""
        u, v = (t.view(4, 5, 6) for t in near_pair(3.0, 1e-7, n=20, dim=6))
        if op is L.pairwise_dist:
            u, v = L.expmap0(u, 1.0), L.expmap0(v, 1.0)
        value = torch.vmap(lambda x, y: op(x, y, 0.5))(u, v)
        assert_close(value, op(u, v, 0.5), rtol=1e-12, atol=0)

    @pytest.mark.parametrize('op', [L.pairwise_dist, L.pairwise_dist_tangent0])
    def test_close_pairs_of_float64_keep_their_digits(self, op):
        """Pairs that the matrix product alone would leave without a digit, at any curvature."""
        u, v = (t.view(4, 5, 6) for t in near_pair(3.0, 1e-7, n=20, dim=6))
        if op is L.pairwise_dist:
            u, v = L.expmap0(u, 1.0), L.expmap0(v, 1.0)
        elementwise = L.dist if op is L.pairwise_dist else L.dist_tangent0
        each = torch.linspace(0.5, 2, 4, dtype=torch.float64).view(4, 1, 1)
        for c in (1.0, each[1].squeeze(), each):
            close = op(u, v, c).diagonal(dim1=-2, dim2=-1)
            assert_close(close, elementwise(u, v, c), rtol=1e-12, atol=0)

    def test_tangent_gradient_at_the_origin(self):
        u, v = torch.zeros(1, 3, requires_grad=True), torch.tensor([[0.0, 3.0, 4.0], [0, 0, 0]])
        L.pairwise_dist_tangent0(u, v, 1.0).sum().backward()
        assert_close(u.grad, torch.tensor([[0.0, -0.6, -0.8]]))

    @pytest.mark.parametrize('op', [L.pairwise_inner, L.pairwise_dist, L.pairwise_dist_tangent0])
    @pytest.mark.parametrize('dtype', FLOATS)
    def test_no_intermediate_is_cubic(self, op, dtype):
        class Largest(TorchDispatchMode):
            numel = 0

            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                result = function(*args, **(kwargs or {}))
                for tensor in result if isinstance(result, (tuple, list)) else [result]:
                    if isinstance(tensor, torch.Tensor):
                        self.numel = max(self.numel, tensor.untyped_storage().nbytes() // 8)
                return result

        n, dim = 60, 50
        u, v = (randn(n, dim, seed=k).to(dtype).requires_grad_() for k in (1, 2))
        with Largest() as largest:
            op(u, v, 1.0).sum().backward()
        assert n * n <= largest.numel <= 3 * n * max(n, dim)


class TestMaps:
    @given(vectors(1e-3, 6), vectors(1e-3, 6), curvatures)
    def test_logmap_inverts_expmap(self, u, w, c):
        x = L.expmap0(u / math.sqrt(c), c)
        v = L.transport0(x, w / math.sqrt(c), c)
        y = L.expmap(x, v, c)
        assert by_row(L.logmap(x, y, c), v) < 1e-6
        assert_close(L.dist(x, y, c), w.norm() / math.sqrt(c), rtol=1e-6, atol=0)

    @given(vectors(1e-3, 6), vectors(1e-3, 6), curvatures)
    def test_expmap_inverts_logmap(self, u, v, c):
        x, y = L.expmap0(u / math.sqrt(c), c), L.expmap0(v / math.sqrt(c), c)
        v = L.logmap(x, y, c)
        assert L.dist(L.expmap(x, v, c), y, c) < 1e-6
        assert_close(lorentz_norm(x, v, c), L.dist(x, y, c), rtol=1e-6, atol=1e-9)

    @given(vectors(1e-3, 3), vectors(1e-3, 3), st.floats(0.0, 1.0), curvatures)
    def test_expmap_walks_the_geodesic(self, u, w, s, c):
        x = L.expmap0(u / math.sqrt(c), c)
        v = L.transport0(x, w / math.sqrt(c), c)
        middle, end = L.expmap(x, s * v, c), L.expmap(x, v, c)
        total = L.dist(x, middle, c) + L.dist(middle, end, c)
        assert_close(total, L.dist(x, end, c), rtol=1e-8, atol=1e-8)

    @pytest.mark.parametrize('radius', [1e-3, 1.0, 3.0, 6.0, 9.0])
    @pytest.mark.parametrize('gap', [1e-3, 1.0, 3.0])
    def test_float32_is_float64_to_two_roundings(self, radius, gap):
        """Nothing is lost beyond the rounding of what goes in, of differences and of results."""
        x, y = (L.expmap0(t, 1.0).float() for t in near_pair(radius, gap))
        v = L.transport0(x, vectors_of_length(gap, *x.shape, seed=3).float(), 1.0)
        eps = torch.finfo(torch.float32).eps
        for op, second in ((L.logmap, y), (L.expmap, v)):
            exact = op(x.double(), second.double(), 1.0)
            assert by_row(op(x, second, 1.0), exact) < 2 * eps
        inner = L.inner(x.double(), y.double(), 1.0)
        assert relative(L.inner(x, y, 1.0), inner) < eps
        p, q = L.to_poincare(x, 1.0), -L.to_poincare(y, 1.0)
        exact = P.mobius_add(p.double(), q.double(), 1.0)
        assert by_row(P.mobius_add(p, q, 1.0), exact) < 2 * eps

    @pytest.mark.parametrize('radius', [1.0, 3.0, 6.0])
    def test_round_trip_in_float32(self, radius):
        """A rounding of ``y`` by eps moves ``log(y)`` by a multiple of ``x0^2`` in space parts."""
        x = L.expmap0(vectors_of_length(radius, 200, 8).float(), 1.0)
        v = L.transport0(x, vectors_of_length(1.0, 200, 8, seed=3).float(), 1.0)
        condition = L.time(x, 1.0).square().max().item()
        error = L.logmap(x, L.expmap(x, v, 1.0), 1.0) - v
        assert error.norm(dim=-1).max() < 4 * torch.finfo(torch.float32).eps * condition

    def test_logmap_of_the_point_itself_is_zero(self):
        x = L.expmap0(vectors_of_length(3.0, 20, 4), 1.0).requires_grad_()
        value = L.logmap(x, x, 1.0)
        assert (value == 0).all()
        jacobian = torch.autograd.functional.jacobian(lambda y: L.logmap(x[0], y, 1.0), x[0])
        assert_close(jacobian, torch.eye(4, dtype=torch.float64))


class TestTransport:
    @given(vectors(1e-3, 9), vectors(1e-3, 9), vectors(1e-3, 9), curvatures)
    def test_keeps_lengths_and_angles(self, u, v, w, c):
        x = L.expmap0(u / math.sqrt(c), c)
        a, b = L.transport0(x, v, c), L.transport0(x, w, c)
        product = (a * b).sum() - (x * a).sum() * (x * b).sum() / L.time(x, c).square()
        assert_close(product, (v * w).sum(), rtol=1e-6, atol=1e-6 * (v.norm() * w.norm()).item())

    @given(vectors(1e-2, 6), vectors(1e-2, 6), curvatures)
    def test_agrees_with_the_differential(self, u, w, c):
        """``d exp_0`` at ``u`` is transport, stretched by sinh(r)/r across the ray of ``u``."""
        u, r = u / math.sqrt(c), u.norm()
        along = (w @ u) / (u @ u) * u
        _, pushed = torch.autograd.functional.jvp(lambda t: L.expmap0(t, c), u, w)
        expected = along + torch.sinh(r) / r * (w - along)
        assert by_row(pushed, L.transport0(L.expmap0(u, c), expected, c)) < 1e-9

    @given(vectors(1e-2, 6), curvatures)
    def test_carries_the_velocity_of_a_ray(self, u, c):
        u = u / math.sqrt(c)
        x = L.expmap0(u, c)
        assert by_row(L.expmap(x, L.transport0(x, u, c), c), L.expmap0(2 * u, c)) < 1e-9


class TestPoincareIsometry:
    @given(vectors(1e-6, 6), vectors(1e-6, 6), curvatures)
    def test_keeps_distances(self, u, v, c):
        x, y = L.expmap0(u / math.sqrt(c), c), L.expmap0(v / math.sqrt(c), c)
        ball = P.dist(L.to_poincare(x, c), L.to_poincare(y, c), c)
        assert_close(ball, L.dist(x, y, c), rtol=1e-6, atol=0)

    @given(vectors(), curvatures)
    def test_lands_in_the_ball(self, v, c):
        p = L.to_poincare(L.expmap0(v, 1.0) / math.sqrt(c), c)
        assert c * p.square().sum() <= 1

    @given(vectors(1e-6, 12), curvatures)
    def test_has_an_inverse(self, v, c):
        x = L.expmap0(v / math.sqrt(c), c)
        assert by_row(P.to_lorentz(L.to_poincare(x, c), c), x) < 1e-5


class TestCentroid:
    @given(vectors(), st.lists(st.floats(0.1, 10), min_size=1, max_size=5), curvatures)
    def test_of_equal_points_is_the_point(self, v, weight, c):
        x = L.expmap0(v, 1.0) / math.sqrt(c)
        value = L.centroid(x.expand(len(weight), -1), torch.tensor(weight), c)
        assert L.dist(value, x, c) * math.sqrt(c) < 1e-5

    @given(st.integers(0, 99), radii(1e-3, 1e3), curvatures)
    def test_does_not_depend_on_the_scale_of_the_weights(self, seed, scale, c):
        x, weight = L.expmap0(randn(6, 4, seed=seed), c), randn(6, seed=seed).abs()
        assert_close(L.centroid(x, scale * weight, c), L.centroid(x, weight, c))

    @given(st.integers(0, 99), curvatures)
    def test_minimises_the_squared_chords(self, seed, c):
        x, weight = L.expmap0(randn(6, 4, seed=seed), c), randn(6, seed=seed).abs()

        def cost(mu):
            return (weight * (-2 / c - 2 * L.inner(mu, x, c))).sum()

        mu = L.centroid(x, weight, c)
        for k in range(4):
            step = L.transport0(mu, 1e-3 * vectors_of_length(1.0, 4, seed=k), c)
            assert cost(L.expmap(mu, step, c)) > cost(mu)

    @given(vectors(1e-3, 6), vectors(1e-3, 6), curvatures)
    def test_of_two_points_is_their_midpoint(self, u, v, c):
        x, y = L.expmap0(u / math.sqrt(c), c), L.expmap0(v / math.sqrt(c), c)
        middle = L.centroid(torch.stack([x, y]), None, c)
        assert_close(L.dist(middle, x, c), L.dist(middle, y, c), rtol=1e-6, atol=1e-6)
        assert_close(2 * L.dist(middle, x, c), L.dist(x, y, c), rtol=1e-6, atol=1e-6)

    def test_no_weights_are_equal_weights(self):
        x = L.expmap0(randn(2, 6, 4), 1.0)
        assert_close(L.centroid(x), L.centroid(x, torch.ones(2, 6), 1.0))

    def test_one_set_of_points_with_many_weights(self):
        x, weight = L.expmap0(randn(6, 4), 1.0), randn(3, 6, seed=1).abs()
        value = L.centroid(x, weight, 1.0)
        assert value.shape == (3, 4)
        assert_close(value[1], L.centroid(x, weight[1], 1.0))

    def test_a_weight_of_zero_leaves_the_point_out(self):
        x = L.expmap0(randn(6, 4), 1.0)
        weight = torch.tensor([1.0, 2, 0, 1, 0, 3])
        assert_close(L.centroid(x, weight, 1.0), L.centroid(x[weight > 0], weight[weight > 0], 1.0))

    def test_without_any_weight_is_the_origin_with_finite_gradients(self):
        x = L.expmap0(randn(6, 4), 1.0).requires_grad_()
        weight = torch.zeros(6, requires_grad=True)
        value = L.centroid(x, weight, 1.0)
        assert (value == 0).all()
        for grad in torch.autograd.grad(value.sum(), (x, weight)):
            assert grad.isfinite().all()
