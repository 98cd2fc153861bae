"""Multinomial logistic regression of spaces of constant curvature."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from hyper_mm.layers import EuclideanMLR, LorentzMLR, PoincareMLR
from hyper_mm.ops import hyperplanes, lorentz, poincare


def randomized(model, seed=0):
    """The model with parameters away from zero, in float64."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name in ('weight', 'offset', 'point'):
                p.copy_(torch.randn(p.shape, generator=generator) * 0.7)
    return model.double()


def test_lorentz_logits_are_lengths_times_distances():
    model, x = randomized(LorentzMLR(4, 3, curvature=0.6)), torch.randn(7, 4).double()
    points = lorentz.expmap0(model.tangent(x, 0.6), 0.6)
    expected = model.weight.norm(dim=1) * hyperplanes.lorentz_hyperplane_dist(
        points[:, None], model.weight, model.offset, 0.6
    )
    assert_close(model(x), expected, rtol=1e-6, atol=1e-7)


def test_ball_and_hyperboloid_are_one_classifier():
    """With the metric's factor of 2, and vectors half as long in the ball's coordinates."""
    a, b = randomized(LorentzMLR(4, 3, scale=1.0)), PoincareMLR(4, 3, scale=0.5).double()
    with torch.no_grad():
        b.weight.copy_(a.weight / 2)
        b.offset.copy_(a.offset)
    x = torch.randn(7, 4).double()
    assert_close(b(x), a(x))
    assert_close(b.radius(x), a.radius(x))


def test_forms_agree_where_the_point_is_on_the_ray_of_the_normal():
    a, b = randomized(PoincareMLR(4, 3)), PoincareMLR(4, 3, form='gyroplane').double()
    with torch.no_grad():
        b.weight.copy_(a.weight)
        unit = a.weight / a.weight.norm(dim=1, keepdim=True)
        b.point.copy_(a.offset[:, None] / 2 * unit)
    x = torch.randn(7, 4).double()
    assert_close(b(x), a(x))


def test_gyroplane_logits_are_those_of_the_op():
    model = randomized(PoincareMLR(4, 3, form='gyroplane', curvature=0.6))
    x = torch.randn(7, 4).double()
    points = poincare.expmap0(model.tangent(x, 0.6), 0.6)
    through = poincare.expmap0(model.point, 0.6)
    distance = hyperplanes.gyroplane_dist(
        points[:, None], through, poincare.transport0(through, model.weight, 0.6), 0.6
    )
    assert_close(model(x), 2 * model.weight.norm(dim=1) * distance, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('form', ['unidirectional', 'gyroplane'])
def test_few_passes_are_the_same_logits(form):
    """A limit of the radius takes another path; nothing here is longer than it."""
    options = dict(form=form, curvature=dict(init=0.6, learnable=False))
    a = randomized(PoincareMLR(4, 3, **options))
    b = randomized(PoincareMLR(4, 3, max_radius=8.0, **options))
    x = torch.randn(7, 4).double()
    assert_close(a(x), b(x))


@pytest.mark.parametrize('kind', [LorentzMLR, PoincareMLR, EuclideanMLR])
def test_logit_scale(kind):
    plain, scaled = randomized(kind(4, 3)), randomized(kind(4, 3, logit_scale=2.5))
    x = torch.randn(7, 4).double()
    assert_close(scaled(x), 2.5 * plain(x))
    scaled(x).square().sum().backward()
    assert scaled.logit_scale.log.grad.abs() > 0
    stock = torch.nn.Linear(4, 3)
    model = kind(4, 3, logit_scale=2.5, init='from_linear')
    model.adopt_linear(stock.weight, stock.bias)
    assert_close(model(x.float()), stock(x.float()), rtol=2e-3, atol=2e-3)


def test_the_factor_in_doubt_is_two():
    a = randomized(PoincareMLR(4, 3))
    b = PoincareMLR(4, 3, factor='coordinate').double()
    b.load_state_dict(a.state_dict())
    x = torch.randn(7, 4).double()
    assert_close(a(x), 2 * b(x))


@pytest.mark.parametrize('form', ['unidirectional', 'gyroplane'])
def test_the_metric_is_the_length_of_the_normal(form):
    """The factor before the distance is the Riemannian length of the normal at its point."""
    model = randomized(PoincareMLR(4, 3, form=form))
    point = model.point if form == 'gyroplane' else torch.zeros(3, 4).double()
    p = poincare.expmap0(point, 1.0)
    a = poincare.transport0(p, model.weight, 1.0)
    length = 2 / (1 - p.square().sum(1)) * a.norm(dim=1)
    assert_close(length, 2 * model.weight.norm(dim=1))


@pytest.mark.parametrize('kind', [LorentzMLR, PoincareMLR])
def test_flat_limit_is_the_euclidean_classifier(kind):
    model, flat = randomized(kind(4, 3, curvature=0.1, scale=1.0)), EuclideanMLR(4, 3, scale=1.0)
    flat = flat.double()
    factor = 1 if kind is LorentzMLR else 4
    model.curvature.log_initial.fill_(math.log(1e-9))
    model.curvature.log_bounds = (-30.0, 5.0)
    with torch.no_grad():
        flat.weight.copy_(factor * model.weight)
        flat.offset.copy_(model.offset / (1 if kind is LorentzMLR else 2))
    x = torch.randn(7, 4).double()
    assert_close(model(x), flat(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('option', [dict(form='linear'), dict(factor=2)])
def test_refuses_an_unknown_reading(option):
    with pytest.raises(ValueError, match='must be'):
        PoincareMLR(4, 3, **option)


@pytest.mark.parametrize('kind', [LorentzMLR, PoincareMLR, EuclideanMLR])
def test_learns_two_moons(kind):
    torch.manual_seed(0)
    t = torch.rand(200) * math.pi
    side = torch.arange(200) % 2
    x = torch.stack([t.cos() + side, t.sin() * (1 - 2 * side) + 0.3 * side], 1)
    model = kind(2, 2, scale=1.0)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), side)
        loss.backward()
        optimizer.step()
    assert (model(x).argmax(1) == side).float().mean() > 0.8


@pytest.mark.parametrize('c', [0.5, 1.0, 2.0])
def test_gyroplanes_are_the_hyperplanes_of_geoopt(c):
    """Its signed ``dist2plane``, times the length of the normal there."""
    geoopt = pytest.importorskip('geoopt')
    torch.manual_seed(0)
    model = PoincareMLR(6, 4, form='gyroplane', curvature=c).double()
    with torch.no_grad():
        model.point.normal_(std=0.3)
        model.weight.normal_()
    features = 0.5 * torch.randn(10, 6).double()
    ball = geoopt.PoincareBall(c)
    points = poincare.expmap0(model.point.detach(), c)
    normals = poincare.transport0(points, model.weight.detach(), c)
    x = poincare.expmap0(model.tangent(features, c), c)
    expected = ball.dist2plane(x[:, None], points, normals, signed=True)
    expected = expected * ball.norm(points, normals)
    assert_close(model(features), expected, rtol=1e-5, atol=1e-6)
