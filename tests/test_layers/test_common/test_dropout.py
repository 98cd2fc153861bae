import pytest
import torch

from hyper_mm.layers.common.dropout import Dropout


@pytest.mark.parametrize('p', [0.1, 0.5, 0.9])
def test_rate_and_scale(p):
    y = Dropout(p)(torch.ones(1000, 500))
    dropped = (y == 0).float().mean().item()
    assert dropped == pytest.approx(p, abs=4e-3)
    assert y.mean().item() == pytest.approx(1, abs=1e-2)
    kept = y[y != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)), rtol=2e-4, atol=0)


def test_elements_are_independent():
    kept = (Dropout(0.5)(torch.ones(250_001)) != 0).double()
    for lag in (1, 2, 3, 4, 5, 8):
        assert abs(torch.corrcoef(torch.stack([kept[lag:], kept[:-lag]]))[0, 1]) < 0.01


@pytest.mark.parametrize('shape', [(), (1,), (3,), (5, 7), (2, 0)])
def test_any_shape(shape):
    assert Dropout(0.1)(torch.ones(shape)).shape == shape


def test_gradient_is_that_of_the_mask():
    x = torch.randn(40, 50, dtype=torch.float64, requires_grad=True)
    y = Dropout(0.3)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), y.detach())


def test_seed_repeats():
    torch.manual_seed(3)
    first = Dropout(0.5)(torch.ones(99))
    assert not torch.equal(first, Dropout(0.5)(torch.ones(99)))
    torch.manual_seed(3)
    assert torch.equal(first, Dropout(0.5)(torch.ones(99)))


@pytest.mark.parametrize('p', [0.0, 1.0])
def test_limits(p):
    assert torch.equal(Dropout(p)(torch.ones(9)), torch.full((9,), 1 - p))


def test_evaluation_and_autocast():
    x = torch.randn(8, 8)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.5)(x.bfloat16()).dtype == torch.bfloat16
