"""Linear layer of the ball."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from hyper_mm.layers import PoincareLinear, PoincareMLR
from hyper_mm.ops import hyperplanes, poincare


def layer(**options):
    torch.manual_seed(0)
    model = PoincareLinear(4, 3, **options).double()
    with torch.no_grad():
        model.weight.normal_()
        if model.offset is not None:
            model.offset.normal_()
    return model


def test_coordinates_are_distances_to_the_coordinate_hyperplanes():
    """What makes the layer: the distance of y to the hyperplane of axis k is the logit k."""
    model = layer(curvature=0.6)
    x = poincare.expmap0(0.3 * torch.randn(5, 4).double(), 0.6)
    y, axes = model(x), torch.eye(3).double()
    found = hyperplanes.poincare_hyperplane_dist(y[:, None], axes, 0.0, 0.6)
    logits = (
        2
        * model.weight.norm(dim=1)
        * hyperplanes.poincare_hyperplane_dist(x[:, None], model.weight, model.offset, 0.6)
    )
    assert_close(found, logits, rtol=1e-5, atol=1e-6)  # its curvature is of float32


def test_is_linear_near_the_origin():
    torch.manual_seed(0)
    model = PoincareLinear(4, 3).double()
    x = 1e-5 * torch.randn(5, 4).double()
    assert_close(model(x), 2 * x @ model.weight.T, rtol=1e-6, atol=1e-12)
    assert 0.3 < 2 * model.weight.std() / 3**-0.5 < 3 * 4**-0.5


def test_shares_a_curvature_and_maps_batches():
    mlr = PoincareMLR(4, 3, curvature=0.5)
    model = layer(curvature=mlr.curvature)
    assert model.curvature is mlr.curvature
    x = model.from_tangent(torch.randn(2, 5, 4).double() / 5).requires_grad_()
    y = model(x)
    assert y.shape == (2, 5, 3)
    assert (y.square().sum(-1) * 0.5 < 1).all()
    grads = torch.autograd.grad(y.sum(), (x, *model.parameters()))
    assert all(g.isfinite().all() for g in grads)


def test_without_a_bias_the_origin_stays():
    model = layer(bias=False)
    assert model.offset is None
    assert (model(torch.zeros(2, 4).double()) == 0).all()


@pytest.mark.parametrize('c', [0.5, 1.0, 2.0])
@pytest.mark.parametrize('bias', [True, False])
def test_is_the_layer_of_hypll(c, bias):
    """``HLinear``, whose bias is half the distance of the hyperplane."""
    pytest.importorskip('hypll')
    from hypll.manifolds.poincare_ball import Curvature, PoincareBall
    from hypll.nn import HLinear
    from hypll.tensors import ManifoldTensor

    torch.manual_seed(0)
    ball = PoincareBall(Curvature(c, constraining_strategy=lambda x: x))
    peer, ours = HLinear(6, 4, ball, bias=bias), PoincareLinear(6, 4, curvature=c, bias=bias)
    with torch.no_grad():
        ours.weight.copy_(peer.z.tensor.T)
        if bias:
            ours.offset.copy_(2 * peer.bias.normal_(std=0.3))
    x = poincare.expmap0(0.5 * torch.randn(10, 6), c)
    expected = peer(ManifoldTensor(x, manifold=ball, man_dim=-1)).tensor
    assert_close(ours(x), expected, rtol=1e-5, atol=1e-6)


def test_one_point_and_points_of_another_dimension():
    model, x = layer(), torch.full((4,), 0.1).double()
    assert_close(model(x), model(x[None])[0])
    with pytest.raises(ValueError, match=r'points must be of shape \(\.\.\., 4\), got \(2, 3\)'):
        model(torch.zeros(2, 3).double())
