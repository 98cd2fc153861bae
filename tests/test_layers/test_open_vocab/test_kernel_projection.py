import pytest
import torch
import torch.nn.functional as F

from hyper_mm.layers import KernelProjection


def fitted(ridge, count=40, gamma=2.0):
    torch.manual_seed(0)
    inputs, targets = torch.randn(count, 6).double(), torch.randn(count, 3).double()
    module = KernelProjection(6, 3, count, gamma).double().fit(inputs, targets, ridge)
    return module, inputs, targets


def test_interpolates_with_little_ridge():
    module, inputs, targets = fitted(1e-9)
    torch.testing.assert_close(module(3 * inputs), targets, rtol=1e-4, atol=1e-4)


def test_is_the_minimum_of_the_regularized_error():
    """Of |K V - Y|^2 + r tr(V' K V), the squared norm of the function."""
    module, inputs, targets = fitted(0.5)
    x = F.normalize(inputs, dim=-1)
    kernel = (-2.0 * torch.cdist(x, x).square()).exp()
    values = module.values.detach().clone().requires_grad_()
    loss = (kernel @ values - targets).square().sum()
    loss = loss + 0.5 * (values * (kernel @ values)).sum()
    (gradient,) = torch.autograd.grad(loss, values)
    assert gradient.abs().max() < 1e-6  # cdist has about half the digits
    torch.testing.assert_close(module(inputs), kernel @ values, rtol=1e-6, atol=1e-6)


def test_state_and_gradient():
    module, inputs, _ = fitted(0.5)
    other = KernelProjection(6, 3, 40, 2.0).double()
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(inputs), module(inputs))
    x = inputs[:3].clone().requires_grad_()
    assert torch.autograd.gradcheck(module, (x,))
    assert module(torch.zeros(2, 6).double()).isfinite().all()


def test_bad_input():
    with pytest.raises(ValueError, match='gamma must be in'):
        KernelProjection(6, 3, 4, 0.0)
    module = KernelProjection(6, 3, 4, 1.0)
    with pytest.raises(ValueError, match='ridge must be in'):
        module.fit(torch.randn(4, 6), torch.randn(4, 3), 0)
    with pytest.raises(ValueError, match=r'shapes \(\(4, 6\), \(4, 3\)\), got \(5, 6\) and'):
        module.fit(torch.randn(5, 6), torch.randn(4, 3), 1.0)
