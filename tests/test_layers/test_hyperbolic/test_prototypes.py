"""Classification by learned prototypes."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from hyper_mm.layers import HyperbolicPrototypes
from hyper_mm.ops import lorentz


@pytest.mark.parametrize('power', [1, 2])
def test_logits_are_distances(power):
    model = HyperbolicPrototypes(4, 3, curvature=0.6, tau=0.5, power=power).double()
    x = torch.randn(2, 7, 4).double()
    a = lorentz.expmap0(model.tangent(x, 0.6), 0.6)[..., None, :]
    d = lorentz.dist(a, lorentz.expmap0(model.prototype, 0.6), 0.6)
    assert_close(model(x), -d.pow(power) / 0.5, rtol=1e-6, atol=1e-7)


def test_flat_limit_is_the_classifier_by_gaussians():
    model = HyperbolicPrototypes(4, 3, curvature=0.1, scale=1.0).double()
    model.curvature.log_initial.fill_(math.log(1e-9))
    model.curvature.log_bounds = (-30.0, 5.0)
    x = torch.randn(7, 4).double()
    assert_close(model(x), -torch.cdist(x, model.prototype).square(), rtol=1e-6, atol=1e-6)


def test_far_prototypes_give_finite_numbers():
    model, x = HyperbolicPrototypes(4, 3, scale=1.0), 50 * torch.randn(7, 4)
    with torch.no_grad():
        model.prototype.mul_(1e3)
    logits = model(x.requires_grad_())
    logits.sum().backward()
    assert all(t.isfinite().all() for t in (logits, x.grad, model.prototype.grad))


def test_learns_the_thirds_of_a_ring():
    torch.manual_seed(0)
    angle = torch.rand(120) * 2 * math.pi
    label = (angle / (2 * math.pi) * 3).long()
    x = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    model = HyperbolicPrototypes(2, 3, scale=0.5)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), label).backward()
        optimizer.step()
    assert (model(x).argmax(1) == label).float().mean() > 0.95


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(power=3), 'power must be'),
        (dict(tau=0.0), 'tau must be positive'),
        (dict(spread=-1.0), 'spread must be positive'),
        (dict(logit_scale=1.0), 'logit_scale is 1 / tau here'),
        (dict(init='from_linear'), 'prototypes are points'),
    ],
)
def test_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        HyperbolicPrototypes(4, 3, **options)
