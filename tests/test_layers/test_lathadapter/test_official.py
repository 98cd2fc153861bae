"""What is computed as in the official code of HIER."""

import pytest
import torch

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
