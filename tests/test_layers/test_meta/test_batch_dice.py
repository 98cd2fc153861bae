"""Dice whose sums run over the whole batch."""

import pytest
import torch

from hyper_mm.layers import BatchDice
from tests.conftest import golden_files
from tests.helpers.golden import Golden, absolute, of_max


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('file', golden_files('feddg*.npz'))
def test_golden_dice(file, dtype):
    g = Golden(file, dtype)
    p, y = g['dice_p'].requires_grad_(), g['dice_y']
    single = dtype == torch.float32
    loss = BatchDice()(p, y)
    assert absolute(loss, g.exact('dice')) < (6e-7 if single else 1e-9)
    (grad,) = torch.autograd.grad(loss, p)
    assert of_max(grad, g.exact('dice_grad_p')) < (6e-6 if single else 1e-9)
    y = y.clone()
    y[:, 1] = 0
    expected = g.exact('dice_empty_channel')
    assert absolute(BatchDice()(p, y), expected) < (6e-7 if single else 1e-9)


def test_sums_run_over_the_batch_and_channels_are_averaged():
    p, y = torch.rand(3, 2, 4, 5).double(), torch.randint(0, 2, (3, 2, 4, 5))
    scores = []
    for c in range(2):
        shared, total = 0.0, 0.0
        for a, b in zip(p[:, c].flatten().tolist(), y[:, c].flatten().tolist()):
            shared, total = shared + a * b, total + a + b
        scores.append((2 * shared + 0.1) / (total + 0.1))
    assert BatchDice(eps=0.1)(p, y).item() == pytest.approx(1 - sum(scores) / 2)


def test_only_valid_pixels_count():
    p, y = torch.rand(2, 3, 4, 6), torch.randint(0, 2, (2, 3, 4, 6))
    valid = torch.zeros(2, 1, 4, 6)
    valid[..., :4] = 1
    torch.testing.assert_close(BatchDice()(p, y, valid), BatchDice()(p[..., :4], y[..., :4]))


def test_bad_input():
    with pytest.raises(ValueError, match='eps must be positive, got 0'):
        BatchDice(eps=0)
    with pytest.raises(ValueError, match='one shape'):
        BatchDice()(torch.zeros(1, 2, 2, 2), torch.zeros(1, 1, 2, 2))
