"""What is computed as in the official code of HIER."""

import pytest
import torch
from torch.autograd import forward_ad

from hyper_mm.layers.lathadapter.official import RiemannianGradient, official_pairwise_dist
from hyper_mm.ops import poincare


def ball(n, dim=4, radius=0.6):
    x = torch.randn(n, dim, dtype=torch.float64)
    return radius * x / x.norm(dim=-1, keepdim=True) * torch.rand(n, 1, dtype=torch.float64)


@pytest.mark.parametrize('c', [0.1, 1.0])
def test_gradient_is_that_of_the_metric(c):
    z = ball(5).requires_grad_()
    weight = torch.randn(5, 4, dtype=torch.float64)
    out = RiemannianGradient.apply(z, c)
    assert torch.equal(out, z)
    (grad,) = torch.autograd.grad((out * weight).sum(), z)
    conformal = 2 / (1 - c * z.detach().square().sum(-1, keepdim=True))
    torch.testing.assert_close(grad, weight / conformal**2)


@pytest.mark.parametrize('c', [0.1, 1.0])
def test_distances_differ_by_what_is_added_to_the_denominator(c):
    x, y = ball(5), ball(3)
    found, exact = official_pairwise_dist(x, y, c), poincare.pairwise_dist(x, y, c)
    assert found.shape == (5, 3)
    # at norms up to 0.6 the denominator is at least (1 - 0.6 * 0.6)^2: the term is 2.5e-5 of it
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-9)
    assert ((found - exact).abs() > 1e-9 * exact).any()


def apply(z):
    return RiemannianGradient.apply(z, 0.5)


def test_gradient_is_scaled_in_all_modes():
    z = (0.3 * torch.randn(4, 3, dtype=torch.float64)).requires_grad_()
    rate = (1 - 0.5 * z.detach().square().sum(-1, keepdim=True)).square() / 4
    v = torch.randn_like(z)
    assert torch.equal(apply(z), z)
    torch.testing.assert_close(torch.autograd.grad(apply(z), z, v)[0], rate * v)
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(apply(forward_ad.make_dual(z.detach(), v)))
    torch.testing.assert_close(dual.tangent, rate * v)
    z = z.detach()
    torch.testing.assert_close(torch.func.jvp(apply, (z,), (v,))[1], rate * v)
    wanted = torch.diag_embed(rate.expand(-1, 3))
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(torch.func.vmap(jacobian(apply))(z), wanted)
