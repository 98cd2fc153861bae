"""Parity of the geometry ops with high-precision arithmetic."""

import pytest
import torch

from hyper_mm.ops import lorentz as L
from hyper_mm.ops import poincare as P

from ..conftest import golden_files
from ..helpers.golden import Golden, absolute, by_row, of_max, relative

LORENTZ = golden_files('lorentz_ops*.npz')
POINCARE = golden_files('poincare_ops*.npz')
PRECISIONS = [torch.float32, torch.float64]


def tolerance(dtype, single, double):
    return 3 * (single if dtype == torch.float32 else double)


def column(c, points):
    """Curvatures (K,) shaped to broadcast with points (K, ..., d)."""
    return c.view(-1, *[1] * (points.ndim - 1))


def check_gradients(pairwise_dist, g, limit, grad_limit):
    """Sum of all distances, and its gradients by both points and the curvature."""
    for k, c in enumerate(g['c']):
        args = [x.clone().requires_grad_() for x in (g['grad_in_x'][k], g['grad_in_y'][k], c)]
        total = pairwise_dist(*args).sum()
        assert relative(total, g.exact('grad_sum')[k]) < limit
        for grad, name in zip(torch.autograd.grad(total, args), 'xyc'):
            assert of_max(grad, g.exact(f'grad_{name}')[k]) < grad_limit, name


@pytest.mark.parametrize('dtype', PRECISIONS)
@pytest.mark.parametrize('file', LORENTZ)
class TestLorentzGolden:
    def test_golden_expmap0(self, file, dtype):
        g = Golden(file, dtype)
        v = g['v'].requires_grad_()
        for k, c in enumerate(g['c']):
            c = c.clone().requires_grad_()
            value = L.expmap0(v, c)
            assert by_row(value, g.exact('exp')[k]) < tolerance(dtype, 3e-6, 3e-12)
            grad_v, grad_c = torch.autograd.grad((g['cot'] * value).sum(), (v, c))
            assert by_row(grad_v, g.exact('exp_vjp_v')[k]) < tolerance(dtype, 3e-6, 1e-12)
            assert relative(grad_c, g.exact('exp_vjp_c')[k]) < tolerance(dtype, 3e-5, 1e-12)

    def test_golden_logmap0(self, file, dtype):
        g = Golden(file, dtype)
        name = 'f32' if dtype == torch.float32 else 'f64'
        points = g['exp_f32' if dtype == torch.float32 else 'exp']
        value = L.logmap0(points, column(g['c'], points))
        assert by_row(value, g.exact(f'log_of_exp_{name}')) < tolerance(dtype, 2e-7, 3e-12)
        x = g['exp'].requires_grad_()
        for k, c in enumerate(g['c']):
            c = c.clone().requires_grad_()
            value = (g['cot'] * L.logmap0(x[k], c)).sum()
            grad_x, grad_c = torch.autograd.grad(value, (x, c))
            assert by_row(grad_x[k], g.exact('log_vjp_x')[k]) < tolerance(dtype, 3e-6, 1e-12)
            assert relative(grad_c, g.exact('log_vjp_c')[k]) < tolerance(dtype, 3e-5, 1e-12)

    def test_golden_points(self, file, dtype):
        g = Golden(file, dtype)
        x, y = g['x'], g['y']
        c = column(g['c'], x)
        assert relative(L.time(x, c), g.exact('time_x')) < tolerance(dtype, 2e-7, 3e-15)
        inner = g.exact('inner_xy')
        assert relative(L.pairwise_inner(x, y, c), inner) < tolerance(dtype, 4e-7, 3e-12)
        assert relative(L.to_poincare(x, c), g.exact('poincare_x')) < tolerance(dtype, 2e-7, 3e-15)
        aperture = g.exact('half_aperture_x')
        assert relative(L.half_aperture(x, c), aperture) < tolerance(dtype, 2e-7, 3e-13)

    def test_golden_distances(self, file, dtype):
        g = Golden(file, dtype)
        x, y = g['x'], g['y']
        c = column(g['c'], x)
        expected = g.exact('dist_xy')
        single = tolerance(dtype, 2e-7, 3e-12)
        assert relative(L.pairwise_dist(x, y, c), expected) < single
        c4 = c.unsqueeze(-1)
        elementwise = L.dist(x.unsqueeze(-2), y.unsqueeze(-3), c4)
        assert relative(elementwise, expected) < tolerance(dtype, 2e-6, 3e-12)
        own = L.pairwise_dist(x, x, c)
        assert (own.diagonal(dim1=-2, dim2=-1) == 0).all()
        assert relative(own, g.exact('dist_xx')) < single

    def test_golden_angles(self, file, dtype):
        g = Golden(file, dtype)
        x, y, t = g['x'], g['y'], g['collinear_factor']
        c = column(g['c'], x).unsqueeze(-1)
        angle = L.exterior_angle(x.unsqueeze(-2), y.unsqueeze(-3), c)
        assert absolute(angle, g.exact('angle_xy')) < tolerance(dtype, 5e-4, 1e-9)
        line = t[:, None] * x.unsqueeze(-2)
        angle = L.exterior_angle(x.unsqueeze(-2), line, c)
        assert absolute(angle, g.exact('collinear_angle')) < tolerance(dtype, 5e-4, 1e-9)

    def test_golden_centroid(self, file, dtype):
        g = Golden(file, dtype)
        x, weights = g['x'].unsqueeze(1), g['weights']
        value = L.centroid(x, weights, column(g['c'], x))
        assert by_row(value, g.exact('centroid')) < tolerance(dtype, 3e-5, 3e-12)

    def test_golden_close_pairs(self, file, dtype):
        g = Golden(file, dtype)
        single = dtype == torch.float32
        suffix = '_f32' if single else ''
        c = column(g['c'], g['near_u'])
        radius, gap = g.exact('near_radius'), g.exact('near_gap')

        expected = g.exact(f'near_dist_tangent{suffix}')
        tangent = L.dist_tangent0(g['near_u'], g['near_v'], c)
        u, v = g['near_u'].unsqueeze(-2), g['near_v'].unsqueeze(-2)
        pairs = L.pairwise_dist_tangent0(u, v, c[..., None])
        wide = gap > 0.05
        for limit, fp32, fp64 in [
            (1, 1e-6, 3e-12),
            (3, 4e-6, 3e-12),
            (6, 1e-4, 3e-12),
            (9, 7e-4, 3e-12),
            (12, 1e-2, 3e-12),
        ]:
            chosen = (radius <= limit) & (wide if single else gap > 0)
            for value in (tangent, pairs.flatten(1)):
                error = relative(value[:, chosen], expected[:, chosen])
                assert error < tolerance(dtype, fp32, fp64), f'radius {limit}'

        expected = g.exact(f'near_dist_points{suffix}')
        points = L.dist(g['near_x'], g['near_y'], c)
        for limit, fp32, fp64 in [
            (1, 3e-7, 3e-12),
            (3, 3e-5, 3e-12),
            (6, 1e-2, 1e-11),
            (9, None, 6e-9),
            (12, None, 2e-6),
        ]:
            if single and fp32 is None:
                continue
            chosen = (radius <= limit) & (wide if single else gap > 0)
            error = relative(points[:, chosen], expected[:, chosen])
            assert error < tolerance(dtype, fp32 or 0, fp64), f'radius {limit}'

    def test_golden_gradients(self, file, dtype):
        limit = tolerance(dtype, 1e-6, 5e-14)
        check_gradients(L.pairwise_dist, Golden(file, dtype), limit, limit)


@pytest.mark.parametrize('dtype', PRECISIONS)
@pytest.mark.parametrize('file', POINCARE)
class TestPoincareGolden:
    def test_golden_expmap0(self, file, dtype):
        g = Golden(file, dtype)
        for k, c in enumerate(g['c']):
            v, c = g['v'][k].requires_grad_(), c.clone().requires_grad_()
            value = P.expmap0(v, c)
            assert by_row(value, g.exact('exp')[k]) < tolerance(dtype, 2e-7, 3e-13)
            grad_v, grad_c = torch.autograd.grad((g['cot'] * value).sum(), (v, c))
            assert of_max(grad_v, g.exact('exp_vjp_v')[k]) < tolerance(dtype, 1e-6, 1e-12)
            assert relative(grad_c, g.exact('exp_vjp_c')[k]) < tolerance(dtype, 1e-5, 1e-12)

    def test_golden_logmap0(self, file, dtype):
        g = Golden(file, dtype)
        single = dtype == torch.float32
        points = g['exp_f32' if single else 'exp']
        value = P.logmap0(points, column(g['c'], points))
        expected = g.exact('log_of_exp_f32' if single else 'log_of_exp_f64')
        assert by_row(value, expected) < tolerance(dtype, 4e-6, 1e-12)
        if single:
            return
        for k, c in enumerate(g['c']):
            x, c = g['exp'][k].requires_grad_(), c.clone().requires_grad_()
            total = (g['cot'] * P.logmap0(x, c)).sum()
            grad_x, grad_c = torch.autograd.grad(total, (x, c))
            assert of_max(grad_x, g.exact('log_vjp_x')[k]) < 1e-10
            assert relative(grad_c, g.exact('log_vjp_c')[k]) < 1e-10

    def test_golden_points(self, file, dtype):
        g = Golden(file, dtype)
        x, y = g['x'], g['y']
        c = column(g['c'], x)
        both = x.unsqueeze(-2), y.unsqueeze(-3), c.unsqueeze(-1)
        assert absolute(P.mobius_add(*both), g.exact('add_xy')) < tolerance(dtype, 1e-4, 1e-11)
        for k, curvature in enumerate(g['c']):
            value = P.mobius_matvec(g['M'], g['x_matvec'][k], curvature)
            assert absolute(value, g.exact('matvec')[k]) < tolerance(dtype, 2e-5, 1e-11)
        value = P.project(g['project_in'], c, 1e-3)
        assert absolute(value, g.exact('project')) < tolerance(dtype, 1e-6, 1e-14)
        value = P.to_lorentz(x, c)
        assert by_row(value, g.exact('lorentz_x')) < tolerance(dtype, 4e-4, 1e-11)

    def test_golden_distances(self, file, dtype):
        g = Golden(file, dtype)
        x, y = g['x'], g['y']
        c = column(g['c'], x)
        expected = g.exact('dist_xy')
        value = P.dist(x.unsqueeze(-2), y.unsqueeze(-3), c.unsqueeze(-1))
        assert relative(value, expected) < tolerance(dtype, 6e-5, 1e-12)
        value = P.pairwise_dist(x, y, c)
        assert relative(value, expected) < tolerance(dtype, 6e-5, 1e-12)
        own = P.pairwise_dist(x, x, c)
        assert (own.diagonal(dim1=-2, dim2=-1) == 0).all()
        assert relative(own, g.exact('dist_xx')) < tolerance(dtype, 6e-5, 1e-12)

    def test_golden_gradients(self, file, dtype):
        limits = tolerance(dtype, 1e-6, 1e-12), tolerance(dtype, 2e-6, 1e-12)
        check_gradients(P.pairwise_dist, Golden(file, dtype), *limits)
