"""Transformer block of points."""

import pytest
import torch
from torch import nn

from hyper_mm.layers.lorentz.attention import HMLA, LorentzAttention
from hyper_mm.layers.lorentz.block import LorentzBlock
from hyper_mm.layers.lorentz.ffn import LorentzSwiGLU
from hyper_mm.layers.lorentz.norm import lorentz_sum

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute, of_max
from ...helpers.lorentz import attention_of, ffn_of

FILES = golden_files('helm_layers*.npz')
both = pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
files = pytest.mark.parametrize('file', FILES)


@files
@both
def test_golden_block(file, dtype):
    g = Golden(file, dtype)
    block = LorentzBlock(
        g['x'].shape[-1], attention_of(g, dtype), ffn_of(g, dtype), g.exact('block.scale').item()
    ).to(dtype)
    with torch.no_grad():
        block.norm1.weight.copy_(g['rms.gamma'])
        block.norm2.weight.copy_(g['rms.gamma'].flip(0))
    x, c = g['x'].requires_grad_(), g['c'].requires_grad_()
    y = block(x, c)
    assert absolute(y, g.exact('block.y')) < (1e-9 if dtype == torch.float64 else 9e-5)
    leaves = {'x': x, 'c': c, 'w_y1': block.res1.weight, 'w_y2': block.res2.weight}
    grads = torch.autograd.grad((y * g['cot']).sum(), list(leaves.values()))
    for key, grad in zip(leaves, grads):
        limit = 1e-9 if dtype == torch.float64 else 18e-6
        assert of_max(grad, g.exact(f'block.grad_{key}')) < limit, key


class Same(nn.Module):
    def forward(self, x, c, *others):
        return x


@pytest.mark.parametrize('weight', [0.3, 2.0])
def test_weight_is_that_of_both_branches(weight):
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    block = LorentzBlock(6, Same(), Same(), scale=1.5, weight=weight).double()
    assert block.res1.weight.item() == block.res2.weight.item() == pytest.approx(weight)
    expected = lorentz_sum(x, block.norm1(x), block.res1.weight, 0.7, 1.5)
    expected = lorentz_sum(expected, block.norm2(expected), block.res2.weight, 0.7, 1.5)
    torch.testing.assert_close(block(x, 0.7), expected)


@pytest.mark.slow
@pytest.mark.parametrize('latent', [False, True])
def test_compiles_without_breaks(latent):
    torch.manual_seed(0)
    attention = HMLA(17, 2, 5, 3, 4, 3) if latent else LorentzAttention(17, 2)
    block = LorentzBlock(17, attention, LorentzSwiGLU(17, 15), scale=18**0.5).double()
    x, c = torch.randn(2, 9, 17, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    results = []
    for function in (block, torch.compile(block, backend='aot_eager', fullgraph=True)):
        block.zero_grad()
        y = function(x, c)
        y.square().sum().backward()
        results.append((y.detach(), [p.grad.clone() for p in block.parameters()]))
    torch.testing.assert_close(*results)
