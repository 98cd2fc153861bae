"""Tokens sent to experts."""

import copy
import threading
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hyper_mm.layers import collect_losses
from hyper_mm.layers.lorentz.euclidean import MoE
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
    with collect_losses() as scope:
        padded = layers[0](x, 0.7, counted)
        alone = layers[1](x[counted], 0.7)
    torch.testing.assert_close(padded[counted], alone)
    torch.testing.assert_close(*(scope.of(layer)['loss_balance'] for layer in layers))
    for layer in layers:
        layer.update_bias()
    torch.testing.assert_close(layers[0].bias, layers[1].bias)
    assert (layers[0].bias != 0).any()
    with collect_losses() as scope:
        layers[0](x, 0.7, torch.zeros(3, 6, dtype=torch.bool))  # nothing but padding
    assert scope.total()['loss_balance'] == 0
    layers[0].update_bias()
    assert layers[0].bias.isfinite().all()


class Blocks(nn.Module):
    """Two layers of experts, each or both run again in the backward pass."""

    def __init__(self, options=None, whole=False):
        super().__init__()
        self.layers = nn.Sequential(*(MoE(6, 5, 4, 1, balance_weight=1.0) for _ in range(2)))
        self.options, self.whole = options, whole

    def forward(self, x):
        for layer in [self.layers] if self.whole else self.layers:
            x = x + (layer(x) if self.options is None else checkpoint(layer, x, **self.options))
        return x

    def loss(self, x):
        with collect_losses(self) as scope:
            out = self(x)
        return {'loss_main': out.square().mean(), **scope.total()}


class TestOneCall:
    """What belongs to one call is nowhere afterwards."""

    @pytest.mark.parametrize('whole', [False, True], ids=['each', 'both'])
    @pytest.mark.parametrize('reentrant', [False, True])
    def test_checkpointing_neither_loses_nor_doubles(self, reentrant, whole):
        found = []
        for options in (None, dict(use_reentrant=reentrant)):
            torch.manual_seed(0)
            model = Blocks(options, whole).double()
            x = torch.randn(9, 6, dtype=torch.float64, requires_grad=True)
            losses = model.loss(x)
            assert list(losses) == ['loss_main', 'loss_balance']
            (3.0 * sum(losses.values())).backward()
            loads = [layer._load for layer in model.layers]
            assert [int(load.sum()) for load in loads] == [9, 9]
            found.append([*losses.values(), x.grad, *(p.grad for p in model.parameters()), *loads])
            copy.deepcopy(model)
        for a, b in zip(*found):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)

    def test_an_error_leaves_no_graph(self):
        model = Blocks()
        handle = model.layers[1].register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.loss(torch.randn(9, 6))
        handle.remove()
        again = copy.deepcopy(model)
        assert list(again.loss(torch.randn(9, 6))) == ['loss_main', 'loss_balance']

    def test_threads_keep_their_own(self):
        model, inputs, found = Blocks(), torch.randn(6, 16, 9, 6), {}
        gate = threading.Barrier(6, timeout=60)

        def work(index):
            for x in inputs[index]:
                gate.wait()
                found.setdefault(index, []).append(model.loss(x)['loss_balance'].detach())

        threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [int(layer._load.sum()) for layer in model.layers] == [6 * 16 * 9] * 2
        for index, losses in found.items():
            wanted = [model.loss(x)['loss_balance'].detach() for x in inputs[index]]
            torch.testing.assert_close(losses, wanted)
