"""Logits in few passes, against the distances to hyperplanes."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from hyper_mm.ops import hyperplanes, logits, lorentz, poincare
from hyper_mm.ops.logits import clipped_points, lorentz_gyroplane_logits, lorentz_logits

from ..conftest import no_old_dynamo
from .conftest import FLOATS, randn


def parts(dtype=torch.float64, rows=6, radius=1.0):
    x = lorentz.expmap0(radius * randn(rows, 4) / 2, 0.7).to(dtype)
    return x, randn(3, 4, seed=1).to(dtype), randn(3, seed=2).to(dtype)


def plain(x, w, o, c):
    distance = hyperplanes.lorentz_pairwise_hyperplane_dist(x, w, o, c)
    return distance * torch.linalg.vector_norm(w, dim=1)


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('radius', [1e-4, 1.0, 4.0])
def test_values_and_gradients(dtype, radius):
    """To the error of a product of this dtype."""
    results = []
    for function in (lorentz_logits, plain):
        tensors = [t.requires_grad_() for t in parts(dtype, 50, radius)]
        c = torch.tensor(0.7, dtype=dtype, requires_grad=True)
        value = function(*tensors, c)
        results.append((value, *torch.autograd.grad(value.square().sum(), (*tensors, c))))
    far = lorentz.time(parts(dtype, 50, radius)[0], 0.7).max().item() * 8
    for one, other in zip(*results):
        # the gradient of c is a sum of terms that cancel
        size = max(x.abs().max().item() for x in results[1]) if other.ndim == 0 else 0.0
        size = max(size, other.abs().max().item())
        limit = 32 * torch.finfo(dtype).eps * far * size
        assert_close(one, other, rtol=1e-5, atol=limit)


def test_derivatives_of_all_orders():
    tensors = [t.requires_grad_() for t in parts()]
    c = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lorentz_logits, (*tensors, c))
    assert gradgradcheck(lorentz_logits, (*tensors, c))
    x, w, o = parts()

    def call(x):
        return lorentz_logits(x, w, o, 0.7)

    assert_close(torch.func.jacfwd(call)(x), torch.autograd.functional.jacobian(call, x))


def test_shapes_and_dtypes():
    x, w, o = parts(torch.float32)
    value = lorentz_logits(x.view(2, 3, 4), w, o, 0.7)
    assert value.shape == (2, 3, 3)
    assert_close(value.view(6, 3), lorentz_logits(x, w, o, torch.full((1,), 0.7)))
    assert lorentz_logits(x.half(), w.half(), o.half(), 0.7).dtype == torch.float32
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(lorentz_logits(x, w, o, 0.7), value.view(6, 3))
    with pytest.raises(ValueError, match=r'c must be one number, got shape \(6, 1\)'):
        lorentz_logits(x, w, o, torch.full((6, 1), 0.7))


def test_a_normal_of_length_zero_has_finite_gradients():
    x, w, o = (t.requires_grad_() for t in parts())
    value = lorentz_logits(x, w * torch.tensor([[1.0], [0.0], [1.0]]).double(), o, 0.7)
    assert (value[:, 1] == 0).all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(value.sum(), (x, w, o)))


@no_old_dynamo
def test_compiles_to_one_graph():
    torch._dynamo.reset()
    x, w, o = (t.requires_grad_() for t in parts(torch.float32))
    compiled = torch.compile(lorentz_logits, backend='aot_eager', fullgraph=True)
    assert_close(compiled(x, w, o, 0.7), lorentz_logits(x, w, o, 0.7), rtol=1e-5, atol=1e-5)


def gyroplanes(x, p, w, c):
    """Lengths times the distances of the op, of the ball."""
    ball = lorentz.to_poincare(p, c)
    normal = poincare.transport0(ball, w, c)
    points = lorentz.to_poincare(x, c)[:, None]
    distance = hyperplanes.gyroplane_dist(points, ball, normal, c)
    return distance * torch.linalg.vector_norm(w, dim=1)


def through(radius=1.0):
    return lorentz.expmap0(radius * randn(3, 4, seed=3) / 2, 0.7)


@pytest.mark.parametrize('radius', [1e-4, 1.0, 4.0])
def test_gyroplane_logits_are_lengths_times_distances(radius):
    x, w, _ = parts(radius=radius)
    results = []
    for function in (lorentz_gyroplane_logits, gyroplanes):
        tensors = [t.detach().requires_grad_() for t in (x, through(radius), w)]
        c = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        value = function(*tensors, c)
        results.append((value, *torch.autograd.grad(value.square().sum(), (*tensors, c))))
    largest = max(x.abs().max().item() for x in results[1])
    for one, other in zip(*results):
        # the gradient of c is a sum of terms that cancel
        size = other.abs().max().item() if other.ndim else largest
        assert_close(one, other, rtol=1e-7, atol=1e-7 * size)


def test_gyroplane_logits_differentiate():
    x, w, _ = parts()
    tensors = [t.requires_grad_() for t in (x, through(), w)]
    c = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lorentz_gyroplane_logits, (*tensors, c))
    assert gradgradcheck(lorentz_gyroplane_logits, (*tensors, c))
    with pytest.raises(ValueError, match='c must be one number'):
        lorentz_gyroplane_logits(x, through(), w, torch.full((6, 1), 0.7))


def of_features(x, factor, w, o, c, max_radius=1.2, wide=False):
    return lorentz_logits(clipped_points(x, factor, c, max_radius, wide), w, o, c)


def plain_of_features(x, factor, w, o, c, max_radius=1.2):
    v = factor * x
    size = c**0.5 * v.norm(dim=-1, keepdim=True)
    return plain(lorentz.expmap0(v * (max_radius / size).clamp_max(1), c), w, o, c)


def test_points_of_features():
    """Some of them are longer than the limit; in several pieces."""
    x, (_, w, o) = randn(9, 4, seed=5), parts()
    results, c = [], torch.tensor(0.7, dtype=torch.float64)
    for function in (of_features, plain_of_features):
        tensors = [t.detach().requires_grad_() for t in (x, c / 2, w, o, c)]
        value = function(*tensors)
        results.append((value, *torch.autograd.grad(value.square().sum(), tensors)))
    for one, other in zip(*results):
        assert_close(one, other)
    tensors = [t.detach().requires_grad_() for t in (x, c / 2, w, o, c)]
    assert gradgradcheck(of_features, tensors)


def test_pieces(monkeypatch):
    tensors = [t.requires_grad_() for t in parts(rows=150)]
    results = []
    for numbers in (2**16, 1):  # the least piece has 64 rows, the last one fewer
        monkeypatch.setattr(logits, '_CHUNK', numbers)
        value = lorentz_logits(*tensors, 0.7)
        results.append((value, *torch.autograd.grad(value.square().sum(), tensors)))
    for one, other in zip(*results):
        assert_close(one, other)
    assert lorentz_logits(tensors[0][:0], *tensors[1:], 0.7).shape == (0, 3)


def test_keeps_nothing_of_the_size_of_the_logits():
    x, w, o = randn(50, 4).float().requires_grad_(), randn(90, 4).float(), randn(90).float()
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.append(t.numel()) or t, lambda t: t
    ):
        of_features(x, torch.tensor(1.0), w.requires_grad_(), o, 0.7)
    assert max(sizes) == 90 * 5  # planes


def test_wide_products_reach_far_points():
    x, (_, w, o) = 12 * randn(50, 4), parts()
    value = of_features(x.float(), torch.tensor(1.0), w.float(), o.float(), 0.7, None, wide=True)
    assert value.dtype == torch.float32
    exact = of_features(x.float().double(), torch.tensor(1.0), w.float(), o.float(), 0.7, None)
    assert_close(value, exact.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('width', [1, 3, 5, 8])
def test_points_of_another_width_are_refused(width):
    x, w, o = randn(6, width), randn(3, 4), randn(3)
    for call in (
        lambda: lorentz_logits(x, w, o, 1.0),
        lambda: lorentz_gyroplane_logits(x, w, w, 1.0),
    ):
        with pytest.raises(
            ValueError, match=rf'x must have 4 dimensions, got shape \(6, {width}\)'
        ):
            call()
    points = clipped_points(x, torch.ones(1), 1.0, None)
    with pytest.raises(ValueError, match='x must have 4 dimensions'):
        lorentz_logits(points, w, o, 1.0)


def test_shapes_of_planes_are_checked():
    x, w, o = parts()
    for weight, offset in ((w, o[:1]), (w, o[:, None]), (w, o[0]), (w[0], o[:1]), (w[None], o)):
        with pytest.raises(ValueError, match='weight and offset must be of shape'):
            lorentz_logits(x, weight, offset, 0.7)
    for p, weight in ((w[:1], w), (w[0], w[0]), (w[None], w[None])):
        with pytest.raises(ValueError, match='p and weight must be of one shape'):
            lorentz_gyroplane_logits(x, p, weight, 0.7)


@pytest.mark.parametrize('function', [lorentz_logits, lorentz_gyroplane_logits])
def test_many_gradients_at_once(function):
    x, w, o = parts(torch.float32)
    inputs = (x, w, o) if function is lorentz_logits else (x, w / 4, w)
    inputs = [t.clone().requires_grad_() for t in inputs]
    for c in (0.7, torch.tensor(0.7)):
        value = function(*inputs, c)
        pulls = randn(2, *value.shape, seed=5).float()
        options = {'retain_graph': True}
        found = torch.autograd.grad(value, inputs, pulls, is_grads_batched=True, **options)
        singles = (torch.autograd.grad(value, inputs, pull, **options) for pull in pulls)
        for one, *others in zip(found, *singles):
            assert_close(one, torch.stack(others), rtol=1e-4, atol=1e-5)
