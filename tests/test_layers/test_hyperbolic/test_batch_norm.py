"""Batch normalization of the hyperboloid."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from hyper_mm.layers import LorentzBatchNorm
from hyper_mm.ops import lorentz

C = 0.7


def points(n=200, dim=4):
    torch.manual_seed(0)
    center = lorentz.expmap0(torch.tensor([1.0, -0.5, 0.3, 0.0]).double(), C)
    v = lorentz.transport0(center, 0.4 * torch.randn(n, dim).double(), C)
    return lorentz.expmap(center, v, C)


def test_moves_the_centroid_and_scales_the_distances():
    x, norm = points(), LorentzBatchNorm(4, C).double()
    y = norm(x)
    assert lorentz.dist0(lorentz.centroid(y, None, C), C) < 0.05
    assert_close(lorentz.dist0(y, C).square().mean().item(), 1.0, rtol=1e-4, atol=0)
    with torch.no_grad():
        norm.beta.copy_(torch.tensor([0.0, 0.0, 0.0, 2.0]))
        norm.gamma.log.fill_(torch.tensor(0.5).log())
    y, beta = norm(x), lorentz.expmap0(norm.beta.detach(), C)
    assert_close(lorentz.dist(y, beta, C).square().mean().item(), 0.25, rtol=1e-4, atol=0)


def test_running_statistics_go_to_those_of_the_data():
    x, norm = points(), LorentzBatchNorm(4, C, momentum=0.5).double()
    for _ in range(40):
        trained = norm(x)
    mean = lorentz.centroid(x, None, C)
    assert_close(norm.running_mean, mean, rtol=1e-6, atol=1e-6)
    before = {k: v.clone() for k, v in norm.state_dict().items()}
    norm.eval()
    assert_close(norm(x), trained, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in norm.state_dict().items())


def test_is_the_flat_one_near_the_origin():
    torch.manual_seed(0)
    x = 1e-4 * torch.randn(50, 3).double()
    y = LorentzBatchNorm(3, C, eps=1e-20).double()(x)
    center = x - x.mean(0)
    flat = center / center.square().sum(1).mean().sqrt()
    assert_close(lorentz.logmap0(y, C), flat, rtol=1e-3, atol=1e-4)


def test_gradients_of_maps_of_points():
    norm = LorentzBatchNorm(4, dict(init=C, learnable=True))
    x = points(12).float().view(3, 4, 4).requires_grad_()
    norm(x).sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in norm.parameters())


def test_refuses():
    norm = LorentzBatchNorm(4)
    with pytest.raises(ValueError, match='training needs 2 points or more, got 1'):
        norm(torch.randn(1, 4))
    with pytest.raises(ValueError, match='must have 4 space components, got 3'):
        norm(torch.randn(5, 3))
    with pytest.raises(ValueError, match='momentum must be'):
        LorentzBatchNorm(4, momentum=0.0)
