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


@pytest.mark.parametrize('score', ['softmax', 'sigmoid'])
def test_padding_does_not_count_for_the_balance(score):
    layers = [MiCE(11, 9, 5, score=score, balance_weight=1.0).double() for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    x, counted = torch.randn(3, 6, 11, dtype=torch.float64), torch.rand(3, 6) < 0.6
    padded = layers[0](x, 0.7, counted)
    alone = layers[1](x[counted], 0.7)
    torch.testing.assert_close(padded[counted], alone)
    torch.testing.assert_close(*(layer.aux_losses()['loss_balance'] for layer in layers))
    for layer in layers:
        layer.update_bias()
    torch.testing.assert_close(layers[0].bias, layers[1].bias)
    assert (layers[0].bias != 0).any()
    layers[0](x, 0.7, torch.zeros(3, 6, dtype=torch.bool))  # nothing but padding
    assert layers[0].aux_losses()['loss_balance'] == 0
    layers[0].update_bias()
    assert layers[0].bias.isfinite().all()
