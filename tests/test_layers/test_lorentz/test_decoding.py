"""The next token in few calls: what it equals, and where the modules are called instead."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hyper_mm.layers.lorentz import decoding
from hyper_mm.layers.lorentz.attention import HMLA, LorentzAttention
from hyper_mm.layers.lorentz.block import LorentzBlock
from hyper_mm.layers.lorentz.cache import TokenCache
from hyper_mm.layers.lorentz.ffn import LorentzSwiGLU
from hyper_mm.layers.lorentz.linear import LorentzLinear
from hyper_mm.layers.lorentz.mice import MiCE

DIMS = 20


def stretched(attention, scale=0.25):
    """An attention whose positions are scaled, as of weights for longer sequences."""
    attention.rope.scale = scale
    return attention


PARTS = {
    'dense': (lambda: LorentzAttention(DIMS, 3), lambda: LorentzSwiGLU(DIMS, 15)),
    'no-rotation': (
        lambda: LorentzAttention(DIMS, 3, rotary=False),
        lambda: MiCE(DIMS, 9, num_shared=2, shared_curvature=None, score='sigmoid'),
    ),
    'stretched': (
        lambda: stretched(LorentzAttention(DIMS, 7)),
        lambda: MiCE(DIMS, 9, learn_curvature=False),
    ),
    'latent': (lambda: HMLA(DIMS, 2, 5, 3, 4, 3), lambda: MiCE(DIMS, 9, renormalize=False)),
    'stretched-latent': (
        lambda: stretched(HMLA(DIMS, 2, 5, 3, 4, 3)),
        lambda: LorentzSwiGLU(DIMS, 11),
    ),
    'two-latents': (
        lambda: HMLA(DIMS, 3, 6, 5, 4, 4, q_latent_dims=7),
        lambda: MiCE(DIMS, 9, 5, 3, curvatures=(0.5, 3.0)),
    ),
}
OTHERS = {
    'no-shared': dict(num_shared=0),
    'tangent': dict(transfer='tangent'),
    'distance': dict(gates='distance'),
    'sequential': dict(combine='sequential'),
}


def block_of(attention, ffn, scale=4.0, weight=0.6):
    block = LorentzBlock(DIMS, attention, ffn, scale, weight).eval()
    for parameter in block.parameters():  # norms, biases and curvatures of no special values
        if parameter.ndim == 1 and parameter.numel() > 1:
            nn.init.uniform_(parameter, 0.3, 1.2)
    return block


@pytest.fixture
def steps(monkeypatch):
    """How often the short way was taken."""
    found = []

    def step(*args):
        found.append(args)
        return decoding.step(*args)

    monkeypatch.setattr('hyper_mm.layers.lorentz.block.step', step)
    return found


def decode(block, x, c, mask=None, prompt=4):
    """The tokens behind a prompt, one by one."""
    cache = TokenCache()
    with torch.no_grad():
        block(x[:, :prompt], c, cache, None if mask is None else mask[:, :, :prompt, :prompt])
        ends = range(prompt + 1, x.shape[1] + 1)
        return torch.cat(
            [
                block(
                    x[:, n - 1 : n], c, cache, None if mask is None else mask[:, :, n - 1 : n, :n]
                )
                for n in ends
            ],
            1,
        )


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('c', [1.0, 0.7])
@pytest.mark.parametrize('count', [1, 3])
@pytest.mark.parametrize('name', list(PARTS))
def test_equals_the_modules(name, count, c, masked, steps):
    attention, ffn = PARTS[name]
    block = block_of(attention(), ffn()).double()
    x, mask = torch.randn(count, 9, DIMS, dtype=torch.float64), None
    if masked:
        mask = (torch.arange(9) >= torch.randint(0, 3, (count, 1)))[:, None, None]
        mask = mask | torch.eye(9, dtype=torch.bool)
    found = decode(block, x, c, mask)
    assert len(steps) == 5
    torch.testing.assert_close(found, decode(block, x, torch.tensor(c).double(), mask))
    with torch.no_grad():
        causal = torch.ones(9, 9, dtype=torch.bool).tril()
        whole = block(x, c, None, causal if mask is None else causal & mask)
    torch.testing.assert_close(found, whole[:, 4:])
    assert len(steps) == 5  # a curvature that is a tensor, and no cache, take the modules


@pytest.mark.parametrize('name', list(OTHERS))
def test_other_experts_are_called(name, steps):
    block = block_of(LorentzAttention(DIMS, 3), MiCE(DIMS, 9, **OTHERS[name])).double()
    x = torch.randn(2, 7, DIMS, dtype=torch.float64)
    found = decode(block, x, 1.0)
    with torch.no_grad():
        torch.testing.assert_close(found, block(x, 1.0)[:, 4:])
    assert not steps


class Louder(LorentzLinear):
    """An adapted map."""

    def map(self, ambient):
        return 2 * super().map(ambient)


@pytest.mark.parametrize('change', ['hook', 'pre-hook', 'subclass', 'other', 'parametrization'])
def test_changed_modules_are_called(change, steps):
    block = block_of(*(make() for make in PARTS['dense'])).double()
    x = torch.randn(2, 7, DIMS, dtype=torch.float64)
    plain = decode(block, x, 1.0)
    assert len(steps) == 3
    ffn, linear = block.ffn, Louder(15, DIMS).double()
    linear.load_state_dict(ffn.w2.state_dict())
    if change == 'hook':
        block.norm2.register_forward_hook(lambda module, args, out: 2 * out)
    elif change == 'pre-hook':
        block.ffn.register_forward_pre_hook(lambda module, args: (2 * args[0], *args[1:]))
    elif change == 'subclass':
        block.norm2 = type('Norm', (type(block.norm2),), {'forward': lambda self, x: x})(DIMS)
    elif change == 'other':
        block.ffn = nn.ModuleList([ffn])
        block.ffn.forward = lambda x, c: 2 * ffn(x, c)
    else:
        nn.utils.parametrize.register_parametrization(
            ffn.w2, 'weight', type('Twice', (nn.Module,), {'forward': lambda self, w: 2 * w})()
        )
    changed = decode(block, x, 1.0)
    assert len(steps) == 3 and (changed - plain).abs().max() > 1e-3


def test_where_gradients_training_or_autocast_want_the_modules(steps):
    block, x = block_of(*(make() for make in PARTS['dense'])), torch.randn(1, 1, DIMS)
    for prepare in (copy.deepcopy, lambda b: copy.deepcopy(b).train()):
        other = prepare(block)
        with torch.no_grad():
            other(x, 1.0, TokenCache())
        assert len(steps) == 1
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        block(x, 1.0, TokenCache())
    with torch.no_grad():
        copy.deepcopy(block).bfloat16()(x.bfloat16(), 1.0, TokenCache())
    assert len(steps) == 1
