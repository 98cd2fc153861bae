"""The building blocks against plain formulas in float64, and at the points where those break."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from hyper_mm.ops import stable as S

from ..conftest import TORCH
from ..helpers.golden import relative
from .conftest import FLOATS, randn, vectors, vectors_of_length

RATIOS = {
    'sinhc': (S.sinhc, torch.sinh, 80.0),
    'asinhc': (S.asinhc, torch.asinh, 1e16),
    'tanhc': (S.tanhc, torch.tanh, 1e4),
    'artanhc': (S.artanhc, torch.atanh, 0.999),
}


def spread(high, n=400):
    """Numbers of every order of magnitude from 1e-20 to ``high``."""
    return torch.logspace(-20, math.log10(high), n, dtype=torch.float64)


@pytest.mark.parametrize('name', RATIOS)
class TestRatios:
    def test_values(self, name):
        ratio, function, high = RATIOS[name]
        x = spread(high)
        assert relative(ratio(x), function(x) / x) < 1e-14
        single = x.float()
        assert relative(ratio(single), function(single.double()) / single.double()) < 1e-6

    def test_series_meets_the_function(self, name):
        ratio, function, _ = RATIOS[name]
        x = torch.linspace(0.009, 0.011, 50, dtype=torch.float64)
        assert relative(ratio(x), function(x) / x) < 1e-15

    def test_is_one_with_slope_zero_at_zero(self, name):
        ratio = RATIOS[name][0]
        x = torch.zeros(1, requires_grad=True)
        assert ratio(x) == 1
        assert torch.autograd.grad(ratio(x), x)[0] == 0

    @pytest.mark.parametrize('dtype', FLOATS)
    def test_gradients_are_finite_everywhere(self, name, dtype):
        """The branch not taken leaves no inf times 0 behind."""
        ratio, _, high = RATIOS[name]
        x = spread(high).to(dtype).requires_grad_()
        assert torch.autograd.grad(ratio(x).sum(), x)[0].isfinite().all()

    def test_gradcheck(self, name):
        ratio = RATIOS[name][0]
        x = torch.tensor([1e-3, 5e-3, 0.02, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(ratio, x)
        assert torch.autograd.gradgradcheck(ratio, x)


class TestChordToDistance:
    @given(st.floats(1e-6, 40.0))
    def test_inverts_the_chord(self, d):
        d = torch.tensor(d, dtype=torch.float64)
        t = 4 * torch.sinh(d / 2).square()
        assert_close(S.chord_to_distance(t), d, rtol=1e-13, atol=0)
        t = t.float()
        expected = 2 * torch.asinh(t.double().sqrt() / 2)
        assert_close(S.chord_to_distance(t).double(), expected, rtol=3e-7, atol=0)

    @pytest.mark.parametrize('dtype', FLOATS)
    def test_is_zero_with_gradient_zero_at_zero(self, dtype):
        t = torch.zeros(3, dtype=dtype, requires_grad=True)
        d = S.chord_to_distance(t)
        assert (d == 0).all()
        assert (torch.autograd.grad(d.sum(), t, retain_graph=True)[0] == 0).all()
        grad = torch.autograd.grad(d.sum(), t, create_graph=True)[0]
        assert (grad == 0).all()
        assert torch.autograd.grad(grad.sum(), t)[0].isfinite().all()

    @pytest.mark.parametrize('dtype', FLOATS)
    @pytest.mark.skipif(TORCH < (2, 3), reason="torch's log1p is infinite there")
    def test_is_finite_up_to_the_largest_number(self, dtype):
        limits = torch.finfo(dtype)
        t = torch.tensor([limits.tiny, limits.max / 2], dtype=dtype, requires_grad=True)
        d = S.chord_to_distance(t)
        assert d.isfinite().all()
        assert torch.autograd.grad(d.sum(), t)[0].isfinite().all()

    def test_first_and_second_backward_agree(self):
        """The in-place path of a plain backward is the differentiable one."""
        t = torch.rand(20, dtype=torch.float64).requires_grad_()
        plain = torch.autograd.grad(S.chord_to_distance(t).sum(), t)[0]
        graph = torch.autograd.grad(S.chord_to_distance(t).sum(), t, create_graph=True)[0]
        assert_close(plain, graph.detach())
        assert torch.autograd.gradcheck(S.chord_to_distance, t)
        assert torch.autograd.gradgradcheck(S.chord_to_distance, t)

    def test_leaves_its_argument_and_gradient_alone(self):
        t, grad = torch.rand(5), torch.rand(5)
        before = t.clone(), grad.clone()
        leaf = t.requires_grad_()
        S.chord_to_distance(leaf).backward(grad)
        assert torch.equal(leaf.detach(), before[0])
        assert torch.equal(grad, before[1])

    @pytest.mark.slow
    def test_keeps_its_gradient_when_compiled(self):
        torch._dynamo.reset()
        t = torch.rand(8).requires_grad_()
        compiled = torch.compile(S.chord_to_distance, backend='aot_eager', fullgraph=True)
        grads = [torch.autograd.grad(f(t).sum(), t)[0] for f in (compiled, S.chord_to_distance)]
        assert_close(*grads)


class TestNorm:
    @given(vectors(1e-12, 1e12))
    def test_norm_and_unit(self, v):
        assert_close(S.safe_norm(v), v.norm())
        assert_close(S.safe_norm(v, keepdim=True), v.norm().view(1))
        assert_close(S.unit(v), v / v.norm())

    @pytest.mark.parametrize('dtype', FLOATS)
    def test_zero_vector(self, dtype):
        x = torch.zeros(2, 3, dtype=dtype, requires_grad=True)
        for value in (S.safe_norm(x), S.unit(x)):
            assert (value == 0).all()
            grad = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
            assert (grad == 0).all()

    @pytest.mark.parametrize('length', [1e-15, 1e-18, 1e-19, 1e-20, 1e-22, 1e-30, 1e-38])
    def test_tiny_vectors_have_finite_gradients(self, length):
        x = torch.full((1, 4), length, requires_grad=True)
        for value in (S.safe_norm(x), S.unit(x)):
            assert torch.autograd.grad(value.sum(), x)[0].isfinite().all()

    def test_gradcheck(self):
        x = randn(3, 4).requires_grad_()
        for function in (S.safe_norm, S.unit):
            assert torch.autograd.gradcheck(function, x)
            assert torch.autograd.gradgradcheck(function, x)


class TestAngles:
    @given(st.floats(0.0, math.pi), st.floats(1e-3, 1e3))
    def test_angle_between(self, angle, length):
        a = torch.tensor([length, 0.0], dtype=torch.float64)
        b = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
        assert_close(S.angle_between(a, b).item(), angle, rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize('dtype', FLOATS)
    def test_angle_with_the_zero_vector(self, dtype):
        a = torch.zeros(3, dtype=dtype, requires_grad=True)
        angle = S.angle_between(a, torch.ones(3, dtype=dtype))
        assert_close(angle.item(), math.pi / 2)
        assert (torch.autograd.grad(angle, a)[0] == 0).all()

    @pytest.mark.parametrize('sign', [1, -1])
    def test_angle_of_parallel_vectors_has_finite_gradients(self, sign):
        a = vectors_of_length(1.0, 50, 6).float().requires_grad_()
        angle = S.angle_between(a, sign * 3 * a.detach())
        assert_close(angle, torch.full((50,), 0.0 if sign > 0 else math.pi), rtol=0, atol=1e-6)
        assert torch.autograd.grad(angle.sum(), a)[0].isfinite().all()

    @pytest.mark.parametrize(('y', 'x'), [(0.0, 0.0), (0.0, 2.0), (0.0, -2.0), (3.0, 0.0)])
    def test_atan2(self, y, x):
        pair = torch.tensor([y, x], requires_grad=True)
        value = S.safe_atan2(pair[0], pair[1])
        assert_close(value.item(), math.atan2(y, x))
        assert torch.autograd.grad(value, pair)[0].isfinite().all()
