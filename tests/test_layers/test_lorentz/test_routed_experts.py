"""Tokens sent to experts."""

from functools import partial

import pytest
import torch

from hyper_mm.layers.lorentz.mice import MiCE, _expert
from hyper_mm.layers.lorentz.routed_experts import affine, by_blocks, by_experts, by_parts

from ...helpers.golden import absolute


@pytest.mark.parametrize('tokens', [1, 50, 400])
def test_blocks_equal_parts(tokens):
    layer, x = MiCE(11, 9, 5).double(), torch.randn(tokens, 12, dtype=torch.float64)
    expert = torch.randint(0, 4, (tokens,)).sort().values  # the last has none
    counts = expert.bincount(minlength=5)
    own = torch.linspace(0.3, 2, 5, dtype=torch.float64).view(-1, 1, 1)
    weights = (layer.w1, layer.w2, layer.w3)
    parameters = (own, *weights, *(b.unsqueeze(1) for b in (layer.b1, layer.b2, layer.b3)))
    parts = by_parts(x, counts.tolist(), partial(_expert, 0.7), parameters)
    blocks = by_blocks(x, expert, counts, partial(_expert, 0.7), parameters)
    assert absolute(blocks, parts) < 1e-12
    cot = torch.randn_like(parts)
    for a, b in zip(*(torch.autograd.grad((y * cot).sum(), weights) for y in (blocks, parts))):
        assert absolute(a, b) < 1e-10


def test_one_token_needs_no_dispatch():
    layer, x = MiCE(11, 9, 5, 3).double(), torch.randn(4, 11, dtype=torch.float64)
    apart = torch.cat([layer(token, 0.7) for token in x.split(1)])
    assert absolute(apart, layer(x, 0.7)) < 1e-12


def test_gathered_experts_equal_those_where_they_lie():
    x, owners = torch.randn(1, 6), torch.tensor([3, 0])
    weights, biases = torch.randn(4, 5, 6), torch.randn(4, 1, 5)
    found = by_experts(x, owners, affine, (weights, biases))
    wanted = affine(x.expand(2, 1, -1), weights[owners], biases[owners]).squeeze(1)
    torch.testing.assert_close(found, wanted)
