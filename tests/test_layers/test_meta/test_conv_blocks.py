"""The small convolutional network of few-shot learning."""

import pytest
import torch

from hyper_mm.layers import ConvBlocks


def test_sizes_and_parameters():
    model = ConvBlocks(1)
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 64, 1, 1)
    # 3 x 3 kernels with bias, two numbers a channel of a norm
    assert sum(p.numel() for p in model.parameters()) == (9 + 3) * 64 + 3 * (9 * 64 + 3) * 64


def test_bad_input():
    with pytest.raises(ValueError, match='depth'):
        ConvBlocks(depth=0)
    with pytest.raises(ValueError, match='at least 16 pixels'):
        ConvBlocks()(torch.randn(1, 3, 15, 28))
