"""Attention over windows and over classes, guided by images and texts."""

import pytest
import torch

from hyper_mm.layers.open_vocab.cost_attention import ClassAttention, WindowBlock
from tests.helpers.tools import load_tool


@pytest.mark.parametrize('shape', [(12, 8), (8, 12), (4, 4), (4, 12)])
def test_shifted_windows_equal_rolled_and_masked_ones(shape):
    block = WindowBlock(16, 8, 2, 4, shifted=True).double()
    x = torch.randn(2, 3, *shape, 16, dtype=torch.float64)
    guidance = torch.randn(2, 1, *shape, 8, dtype=torch.float64)
    reference = load_tool('benchmarks/straightforward_aggregator.py').window_block
    flat = guidance.expand(-1, 3, -1, -1, -1).flatten(0, 1)
    expected = reference(block, x.flatten(0, 1), flat).unflatten(0, (2, 3))
    torch.testing.assert_close(block(x, guidance), expected, rtol=1e-6, atol=1e-8)


def test_padding_counts_as_often_as_it_stands_there():
    """One padded token, counted n times, equals n tokens."""
    attention = ClassAttention(16, 8, 2, pad_len=6).double()
    torch.nn.init.normal_(attention.padding)
    x = torch.randn(1, 4, 1, 1, 16, dtype=torch.float64)
    guidance = torch.randn(1, 4, 1, 1, 8, dtype=torch.float64)
    tokens = torch.cat([x, attention.padding.expand(1, 2, 1, 1, 16)], 1)
    guides = torch.cat([guidance, attention.padding_guidance.expand(1, 2, 1, 1, 8)], 1)
    expected = attention(tokens, guides, (1, 1))[:, :4]
    torch.testing.assert_close(attention(x, guidance, (1, 1)), expected)


def test_classes_are_attended_at_each_position_alone():
    attention = ClassAttention(4, 3, 1, pad_len=0).double()
    x, guidance = torch.randn(1, 5, 2, 2, 4).double(), torch.randn(1, 5, 1, 1, 3).double()
    changed = x.clone()
    changed[:, :, 1, 1] = torch.randn(1, 5, 4).double()
    found, other = attention(x, guidance, (1, 1)), attention(changed, guidance, (1, 1))
    torch.testing.assert_close(found[:, :, 0], other[:, :, 0])
    assert (found[:, :, 1, 1] != other[:, :, 1, 1]).all()
