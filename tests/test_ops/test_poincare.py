"""What the ops of the Poincare ball promise, as properties."""

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

from ..helpers.golden import by_row, relative
from . import exact
from .conftest import DIM, FLOATS, curvatures, radii, randn, rotations, vectors, vectors_of_length


def point(v, c):
    """The point of the ball at scaled distance ``|v|`` from the origin."""
    return P.expmap0(v / 2 / math.sqrt(c), c)


class TestOrigin:
    @given(vectors(1e-6, 8), curvatures)
    def test_expmap0_doubles_the_length(self, v, c):
        v = v / math.sqrt(c)
        x = P.expmap0(v, c)
        for value in (P.radius(x, c), P.dist(torch.zeros_like(x), x, c)):
            assert_close(value, 2 * v.norm(), rtol=1e-8, atol=0)

    @given(vectors(1e-6, 8), curvatures)
    def test_logmap0_inverts_expmap0(self, v, c):
        v = v / math.sqrt(c)
        assert by_row(P.logmap0(P.expmap0(v, c), c), v) < 1e-8

    @given(vectors(1e-6, 3), curvatures)
    def test_logmap0_inverts_expmap0_in_float32(self, v, c):
        """As far as float32 tells points of the ball apart: 6e-8 at ``1 - tanh(3) = 5e-3``."""
        v = (v / math.sqrt(c)).float()
        assert by_row(P.logmap0(P.expmap0(v, c), c), v) < 3e-5

    @given(vectors(1e-6, 20), curvatures)
    def test_expmap0_stays_in_the_closed_ball(self, v, c):
        assert c * P.expmap0(v / math.sqrt(c), c).square().sum() <= 1 + 1e-12


class TestDistance:
    @given(vectors(1e-6, 12), vectors(1e-6, 12), curvatures)
    def test_symmetry(self, u, v, c):
        x, y = point(u, c), point(v, c)
        assert_close(P.dist(x, y, c), P.dist(y, x, c), rtol=1e-12, atol=0)
        assert P.dist(x, x, c) == 0

    @given(vectors(1e-3, 6), vectors(1e-3, 6), vectors(1e-3, 6), curvatures)
    def test_triangle_inequality(self, u, v, w, c):
        x, y, z = point(u, c), point(v, c), point(w, c)
        assert P.dist(x, z, c) <= (P.dist(x, y, c) + P.dist(y, z, c)) * (1 + 1e-9)

    @given(vectors(1e-6, 12), vectors(1e-6, 12), rotations, curvatures)
    def test_rotations_are_isometries(self, u, v, rotation, c):
        x, y = point(u, c), point(v, c)
        moved = P.dist(x @ rotation.T, y @ rotation.T, c)
        assert_close(moved, P.dist(x, y, c), rtol=1e-6, atol=0)

    @given(vectors(1e-3, 4), vectors(1e-3, 4), vectors(1e-3, 4), curvatures)
    def test_translations_are_isometries(self, u, v, w, c):
        x, y, z = point(u, c), point(v, c), point(w, c)
        moved = P.dist(P.mobius_add(z, x, c), P.mobius_add(z, y, c), c)
        assert_close(moved, P.dist(x, y, c), rtol=1e-7, atol=1e-9)

    @given(vectors(1e-3, 6), vectors(1e-3, 6), curvatures)
    def test_textbook_formula(self, u, v, c):
        x, y = point(u, c), point(v, c)
        sum_norm = P.mobius_add(-x, y, c).norm()
        textbook = 2 / math.sqrt(c) * torch.atanh(math.sqrt(c) * sum_norm)
        assert_close(P.dist(x, y, c), textbook, rtol=1e-6, atol=1e-9)

    @given(vectors(1e-6, 8), curvatures)
    def test_opposite_vectors(self, v, c):
        v = v / math.sqrt(c)
        value = P.dist(P.expmap0(v, c), P.expmap0(-v, c), c)
        assert_close(value, 4 * v.norm(), rtol=1e-8, atol=0)

    @pytest.mark.parametrize('size', [0.1, 0.9, 0.99, 0.9999])
    @pytest.mark.parametrize('gap', [1e-4, 1e-2, 1.0])
    def test_float32_against_float64(self, size, gap):
        """Up to the boundary: the gap ``1 - c |x|^2`` is exact for the float32 point."""
        x = vectors_of_length(size, 200, 8, seed=1)
        y = x + gap * (1 - size) * randn(200, 8, seed=2)
        y = (y * (size / y.norm(dim=-1, keepdim=True))).float()
        x = x.float()
        apart = (x != y).any(-1)
        x, y = x[apart], y[apart]
        expected = P.dist(x.double(), y.double(), 1.0)
        assert relative(P.dist(x, y, 1.0), expected) < 1e-6
        lorentz = P.to_lorentz(x.double(), 1.0)
        assert by_row(P.to_lorentz(x, 1.0), lorentz) < 1e-6

    @pytest.mark.parametrize('dtype', FLOATS)
    def test_outside_the_ball_there_is_no_distance(self, dtype):
        """NaN, and not the distance of some other point; points inside are not touched by it."""
        x = vectors_of_length(0.5, 3, DIM).to(dtype)
        y = torch.stack([x[1], x[1] / x[1].norm() * 1.01, 3 * x[2]])
        assert P.dist(x, y, 1.0).isnan().tolist() == [False, True, True]
        assert P.pairwise_dist(x, y, 1.0).isnan().all(0).tolist() == [False, True, True]
        assert P.to_lorentz(y, 1.0).isnan().all(-1).tolist() == [False, True, True]

    @given(st.integers(1, 6), st.integers(1, 6), curvatures, st.integers(0, 99))
    def test_pairs_are_the_elements(self, n, m, c, seed):
        x = P.expmap0(randn(2, n, 4, seed=seed), c)
        y = P.expmap0(randn(2, m, 4, seed=seed + 100), c)
        expected = P.dist(x.unsqueeze(-2), y.unsqueeze(-3), c)
        assert_close(P.pairwise_dist(x, y, c), expected)

    @pytest.mark.parametrize('dtype', FLOATS)
    @pytest.mark.parametrize('radius', [1e-6, 1.0, 4.0])
    def test_self_distance_is_zero(self, dtype, radius):
        x = point(vectors_of_length(radius, 50, 16), 1.0).to(dtype).requires_grad_()
        value = P.pairwise_dist(x, x, 1.0)
        assert (value.diagonal() == 0).all()
        assert (value + torch.eye(50) > 0).all()
        assert (torch.autograd.grad(value.diagonal().sum(), x)[0] == 0).all()


class TestMobius:
    @given(vectors(1e-3, 6), curvatures)
    def test_addition_has_a_neutral_and_inverses(self, v, c):
        x, zero = point(v, c), torch.zeros(DIM, dtype=torch.float64)
        assert_close(P.mobius_add(x, zero, c), x)
        assert_close(P.mobius_add(zero, x, c), x)
        assert_close(P.mobius_add(-x, x, c), zero, rtol=0, atol=1e-12)

    @given(vectors(1e-3, 3), vectors(1e-3, 3), curvatures)
    def test_left_cancellation(self, u, v, c):
        x, y = point(u, c), point(v, c)
        assert_close(P.mobius_add(-x, P.mobius_add(x, y, c), c), y, rtol=1e-6, atol=1e-9)

    @given(vectors(1e-3, 3), st.floats(-2, 2), curvatures)
    def test_along_a_ray_distances_add(self, v, s, c):
        total = P.mobius_add(point(v, c), point(s * v, c), c)
        assert_close(total, point((1 + s) * v, c), rtol=1e-7, atol=1e-12)

    @given(vectors(1e-6, 8), st.integers(0, 99), curvatures)
    def test_matvec_acts_on_tangent_vectors(self, z, seed, c):
        z, m = z / math.sqrt(c), randn(3, DIM, seed=seed) / 3
        value = P.mobius_matvec(m, P.expmap0(z, c), c)
        assert_close(value, P.expmap0(z @ m.T, c), rtol=1e-6, atol=1e-9)

    @given(vectors(1e-3, 4), curvatures)
    def test_matvec_composes(self, v, c):
        a, b = randn(3, 4, seed=1) / 3, randn(4, DIM, seed=2) / 3
        x = point(v, c)
        value = P.mobius_matvec(a, P.mobius_matvec(b, x, c), c)
        assert_close(value, P.mobius_matvec(a @ b, x, c), rtol=1e-6, atol=1e-9)

    @given(vectors(1e-3, 6), rotations, curvatures)
    def test_matvec_by_a_rotation_rotates(self, v, rotation, c):
        x = point(v, c)
        assert_close(P.mobius_matvec(rotation, x, c), x @ rotation.T, rtol=1e-7, atol=1e-9)

    @pytest.mark.parametrize('dtype', FLOATS)
    def test_matvec_of_a_zero_row(self, dtype):
        """A zero row gives zero, with gradient 0 for the matrix and the plain one for the row."""
        m = randn(3, 4).to(dtype).requires_grad_()
        x = torch.zeros(2, 4, dtype=dtype, requires_grad=True)
        value = P.mobius_matvec(m, x, 1.0)
        assert (value == 0).all()
        grad_m, grad_x = torch.autograd.grad(value.sum(), (m, x))
        assert (grad_m == 0).all()
        assert_close(grad_x, m.sum(0).expand(2, 4))

    def test_matvec_refuses_a_matrix_that_does_not_fit(self):
        with pytest.raises(ValueError, match=r'm must have shape \(k, 4\), got \(3, 5\)'):
            P.mobius_matvec(randn(3, 5), randn(2, 4), 1.0)
        with pytest.raises(ValueError, match='m must have shape'):
            P.mobius_matvec(randn(2, 3, 4), randn(2, 4), 1.0)


class TestProject:
    @given(vectors(1e-3, 10), curvatures, st.floats(1e-5, 0.5))
    def test_limits_the_norm_and_keeps_the_direction(self, v, c, eps):
        value, limit = P.project(v, c, eps), (1 - eps) / math.sqrt(c)
        assert value.norm() <= limit * (1 + 1e-12)
        assert_close(value / value.norm(), v / v.norm())
        assert_close(P.project(value, c, eps), value)

    @given(radii(1e-3, 0.999), curvatures)
    def test_leaves_points_inside_alone(self, size, c):
        x = vectors_of_length(size * (1 - 1e-3) / math.sqrt(c), 3, DIM)
        assert torch.equal(P.project(x, c), x)

    @pytest.mark.parametrize('dtype', FLOATS)
    def test_makes_distances_finite(self, dtype):
        x = P.expmap0(vectors_of_length(30.0, 50, DIM).to(dtype), 1.0)
        assert P.dist(x, -x, 1.0).isnan().any()
        assert P.dist(P.project(x, 1.0), P.project(-x, 1.0), 1.0).isfinite().all()

    @pytest.mark.parametrize('eps', [0.0, 1.0, -0.1])
    def test_refuses_a_margin_out_of_range(self, eps):
        with pytest.raises(ValueError, match=r'eps must be in \(0, 1\), got'):
            P.project(randn(2, 3), 1.0, eps)


class TestLorentzIsometry:
    @given(vectors(1e-6, 8), vectors(1e-6, 8), curvatures)
    def test_keeps_distances(self, u, v, c):
        x, y = point(u, c), point(v, c)
        value = L.dist(P.to_lorentz(x, c), P.to_lorentz(y, c), c)
        assert_close(value, P.dist(x, y, c), rtol=1e-6, atol=0)

    @given(vectors(1e-6, 12), curvatures)
    def test_is_the_exponential_map_of_the_same_distance(self, v, c):
        x = L.expmap0(v / math.sqrt(c), c)
        assert by_row(P.to_lorentz(point(v, c), c), x) < 1e-5
        assert by_row(L.to_poincare(x, c), point(v, c)) < 1e-12


class TestMaps:
    @given(vectors(1e-3, 5), vectors(1e-3, 5), curvatures)
    def test_logmap_and_expmap_are_inverse(self, u, v, c):
        x, y = point(u, c), point(v, c)
        v = P.logmap(x, y, c)
        assert_close(P.expmap(x, v, c), y, rtol=1e-8, atol=1e-9)
        length = 2 * v.norm() / (1 - c * x.square().sum())
        assert_close(length, P.dist(x, y, c), rtol=1e-8, atol=0)

    @given(vectors(1e-3, 5), vectors(1e-3, 5), curvatures)
    def test_maps_are_those_of_the_hyperboloid(self, u, w, c):
        x = point(u, c)
        moved = P.expmap(x, P.transport0(x, w / 2, c), c)
        base = P.to_lorentz(x, c)
        expected = L.to_poincare(L.expmap(base, L.transport0(base, w, c), c), c)
        assert_close(moved, expected, rtol=1e-7, atol=1e-9)

    @given(vectors(1e-3, 5), curvatures)
    def test_at_the_origin_they_are_those_of_the_origin(self, v, c):
        zero, x = torch.zeros_like(v), point(v, c)
        assert_close(P.expmap(zero, v / 9, c), P.expmap0(v / 9, c))
        assert_close(P.logmap(zero, x, c), P.logmap0(x, c), rtol=1e-8, atol=0)
        jacobian = torch.autograd.functional.jacobian(lambda t: P.expmap(x, t, c), zero)
        assert_close(jacobian, torch.eye(DIM, dtype=torch.float64), rtol=0, atol=1e-12)

    @given(vectors(1e-3, 5), vectors(1e-3, 5), st.floats(-0.5, 1.5), curvatures)
    def test_geodesic_is_that_of_the_hyperboloid(self, u, v, t, c):
        x, y = point(u, c), point(v, c)
        expected = L.geodesic(P.to_lorentz(x, c), P.to_lorentz(y, c), t, c)
        assert_close(P.geodesic(x, y, t, c), L.to_poincare(expected, c), rtol=1e-7, atol=1e-9)

    @given(vectors(1e-3, 4), vectors(1e-3, 4), vectors(1e-3, 4), curvatures)
    def test_gyration_mends_the_addition(self, u, v, w, c):
        x, y, z = point(u, c), point(v, c), point(w, c)
        left = P.mobius_add(x, P.mobius_add(y, z, c), c)
        right = P.mobius_add(P.mobius_add(x, y, c), P.gyration(x, y, z, c), c)
        assert_close(left, right, rtol=1e-7, atol=1e-9)
        assert_close(P.gyration(x, y, z, c).norm(), z.norm())

    @given(vectors(1e-3, 4), vectors(1e-3, 4), vectors(1e-3, 4), curvatures)
    def test_transport_is_that_of_the_hyperboloid(self, u, v, w, c):
        """In the coordinates of the ball, by the differential of the isometry."""
        x, y = point(u, c), point(v, c)
        moved = P.transport(x, y, w, c)
        a, b = P.to_lorentz(x, c), P.to_lorentz(y, c)
        _, pushed = torch.func.jvp(lambda t: P.to_lorentz(t, c), (x,), (w,))
        _, expected = torch.func.jvp(
            lambda t: L.to_poincare(t, c), (b,), (L.transport(a, b, pushed, c),)
        )
        assert by_row(moved, expected) < 1e-7
        assert by_row(P.transport(y, x, moved, c), w) < 1e-9
        assert_close(P.transport_to0(x, P.transport0(x, w, c), c), w)

    @given(vectors(1e-3, 6), st.floats(-2, 2), curvatures)
    def test_mobius_scalar_scales_the_distance(self, v, r, c):
        assert_close(P.mobius_scalar(r, point(v, c), c), point(r * v, c), rtol=1e-7, atol=1e-12)
        x = P.mobius_add(point(v, c), point(v, c), c)
        assert_close(P.mobius_scalar(2.0, point(v, c), c), x, rtol=1e-7, atol=1e-12)

    def test_parts_and_factors_of_single_points(self):
        x, y = point(randn(3, 4), 1.0), point(randn(3, 4, seed=1), 1.0)
        t = torch.tensor([0.0, 0.5, 1.0])
        assert_close(P.geodesic(x, y, t, 1.0)[1], P.geodesic(x[1], y[1], 0.5, 1.0))
        assert_close(P.mobius_scalar(t, x, 1.0)[1], P.mobius_scalar(0.5, x[1], 1.0))

    @pytest.mark.parametrize('dtype', FLOATS)
    @pytest.mark.parametrize(
        ('first', 'second'), [(1e-3, 1e-3), (1, 1), (8, 8.5), (14, 8), (1, 14)]
    )
    def test_against_exact_arithmetic(self, dtype, first, second):
        """float32 is float64 rounded once; that has the gaps of its points to eps over them."""
        with mp.workdps(exact.DIGITS):
            for u, w in exact.directions(dtype):
                x, y = (P.expmap0(r / 2 * d, 1.0).to(dtype) for r, d in ((first, u), (second, w)))
                a, b = exact.numbers(x), exact.numbers(y)
                v = (w * second * float(1 / exact.conformal(a))).to(dtype)
                t = exact.numbers(v)
                moved = exact.gyration(b, exact.minus(a), t)
                scale = exact.conformal(a) / exact.conformal(b)
                limit = 4 * torch.finfo(dtype).eps
                gaps = max(exact.conformal(a), exact.conformal(b))
                limit += 64 * torch.finfo(torch.float64).eps * float(gaps)
                for value, expected, size in (
                    (P.expmap(x, v, 1.0), exact.ball_expmap(a, t), 1),
                    (P.logmap(x, y, 1.0), exact.ball_logmap(a, b), None),
                    (P.gyration(y, -x, v, 1.0), moved, None),
                    (P.transport(x, y, v, 1.0), [scale * z for z in moved], None),
                ):
                    assert exact.error(value, expected, size) < limit

    def test_a_vector_of_any_length_is_carried_to_the_closed_ball(self):
        x = torch.tensor([0.999, 0, 0], requires_grad=True)
        v = torch.tensor([-1e6, 0, 0], requires_grad=True)
        y = P.expmap(x, v, 1.0)
        assert_close(y, torch.tensor([-1.0, 0, 0]))
        assert all(g.isfinite().all() for g in torch.autograd.grad(y.sum(), (x, v)))

    def test_dimensions_must_agree(self):
        with pytest.raises(ValueError, match=r'must have one dimension, got \[4, 3\]'):
            P.transport0(randn(2, 4), randn(2, 3), 1.0)


def at_the_boundary(gap, dim=3):
    """float32 points at about that distance from the boundary."""
    x = torch.nn.functional.normalize(randn(20, dim, seed=4), dim=-1)
    x = (x * (1 - gap)).float()
    return x[x.double().norm(dim=-1) < 1]


@pytest.mark.parametrize('gap', [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize(
    'op',
    [
        P.radius,
        P.logmap0,
        lambda x, c: P.mobius_scalar(0.5, x, c),
        lambda x, c: P.mobius_scalar(torch.linspace(-0.7, 1.0, len(x)), x, c),
        lambda x, c: P.mobius_matvec(torch.tensor([[0.5, 0.1, 0.0], [0.0, 0.4, 0.2]]), x, c),
        lambda x, c: P.mobius_add(x, -x.roll(1, 0), c),
        lambda x, c: P.mobius_add(x, -(x.detach().float() * (1 - 1e-5)).to(x.dtype), c),
    ],
    ids=['radius', 'logmap0', 'half', 'parts', 'matvec', 'mobius_add', 'almost inverse'],
)
def test_float32_has_its_digits_at_the_boundary(op, gap):
    """Values, and gradients of points and curvature, against float64 from the same numbers."""
    results = []
    for dtype in (torch.float32, torch.float64):
        x = at_the_boundary(gap).to(dtype).requires_grad_()
        c = torch.tensor(1.0, dtype=dtype, requires_grad=True)
        value = op(x, c)
        results.append([value, *torch.autograd.grad(value.sum(), (x, c))])
    for found, expected in zip(*results):
        rows = (found.double() - expected), expected
        error, size = (r.norm(dim=-1) if r.ndim > 1 else r.abs() for r in rows)
        assert (error <= 2e-6 * size.clamp_min(0.1 * size.max())).all()


def test_addition_cancels_at_the_boundary_in_float64():
    """Scaled radius 21: the textbook denominator is 0 there."""
    x = torch.tensor([[1 - 1e-9, 0, 0]], dtype=torch.float64)
    assert torch.equal(P.mobius_add(x, -x, 1.0), torch.zeros_like(x))
    found = P.mobius_add(x, -x * (1 - 2e-9), 1.0)
    a, b = mp.mpf(x[0, 0].item()), mp.mpf((x * (1 - 2e-9))[0, 0].item())
    assert abs(found[0, 0].item() / float((a - b) / (1 - a * b)) - 1) < 1e-6  # eps / gap


@pytest.mark.parametrize('name', ['transport0', 'transport_to0'])
@pytest.mark.parametrize('gap', [0.5, 1e-3, 2e-6])
def test_transport_from_and_to_the_origin_in_float32(name, gap):
    """The gap of points near the boundary keeps the digits that float32 points have."""
    transport = getattr(P, name)
    u = torch.nn.functional.normalize(randn(9, 4, seed=1), dim=-1)
    x = ((1 - gap) ** 0.5 * u / 1.3**0.5).float().requires_grad_()
    v = randn(9, 4, seed=2).float().requires_grad_()
    wide = [t.detach().double().requires_grad_() for t in (x, v)]
    value, expected = transport(x, v, 1.3), transport(*wide, 1.3)
    assert_close(value.double(), expected, rtol=2e-7, atol=0)
    found = torch.autograd.grad(value.square().sum(), (x, v))
    wanted = torch.autograd.grad(expected.square().sum(), wide)
    for a, b in zip(found, wanted):
        assert_close(a.double(), b, rtol=1e-6, atol=1e-6 * b.abs().max())
