"""Feed-forward network of points."""

import pytest
import torch

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute
from ...helpers.lorentz import ffn_of, gradients

FILES = golden_files('helm_layers*.npz')
both = pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
files = pytest.mark.parametrize('file', FILES)


@files
@both
def test_golden_ffn(file, dtype):
    g = Golden(file, dtype)
    layer = ffn_of(g, dtype)
    x, c = g['x'].requires_grad_(), g['c'].requires_grad_()
    y = layer(x, c)
    assert absolute(y, g.exact('ffn.y')) < (1e-9 if dtype == torch.float64 else 9e-6)
    leaves = {'x': x, 'c': c}
    for n in '123':
        w = getattr(layer, f'w{n}')
        leaves |= {f'W{n}': w.weight, f'b{n}': w.bias}
    gradients(g, dtype, y, {f'ffn.grad_{k}': v for k, v in leaves.items()})
