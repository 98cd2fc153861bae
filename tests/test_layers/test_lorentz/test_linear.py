"""Lorentz linear map."""

import pytest
import torch

from hyper_mm.layers.lorentz.linear import LorentzLinear
from hyper_mm.ops import lorentz

from ...conftest import golden_files
from ...helpers.golden import Golden
from ...helpers.lorentz import check

FILES = golden_files('helm_layers*.npz')
both = pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
files = pytest.mark.parametrize('file', FILES)


@files
@both
def test_golden_linear(file, dtype):
    g = Golden(file, dtype)
    layer = LorentzLinear(g['x'].shape[-1], len(g['linear.b'])).to(dtype)
    layer.load_state_dict({'weight': g['linear.W'], 'bias': g['linear.b']})
    x, c = g['x'].requires_grad_(), g['c'].requires_grad_()
    leaves = {'x': x, 'W': layer.weight, 'b': layer.bias, 'c': c}
    leaves = {f'linear.grad_{k}': v for k, v in leaves.items()}
    check(g, dtype, layer(x, c), 'linear.y', 'linear.cot', leaves)


@files
@both
def test_golden_linear_to_another_curvature(file, dtype):
    g = Golden(file, dtype)
    layer = LorentzLinear(g['x'].shape[-1], len(g['linear.b'])).to(dtype)
    layer.load_state_dict({'weight': g['linear.W'], 'bias': g['linear.b']})
    x, c, c2 = (g[k].requires_grad_() for k in ('x', 'c', 'c2'))
    leaves = {'x': x, 'W': layer.weight, 'b': layer.bias, 'c': c, 'c2': c2}
    leaves = {f'linear.grad_{k}_c2': v for k, v in leaves.items()}
    check(g, dtype, lorentz.rescale(layer(x, c), c, c2), 'linear.y_c2', 'linear.cot', leaves)


@files
@both
def test_golden_change_of_curvature(file, dtype):
    g = Golden(file, dtype)
    leaves = {f'change.grad_{k}': g[k].requires_grad_() for k in ('x', 'c', 'c2')}
    check(g, dtype, lorentz.rescale(*leaves.values()), 'change.y', 'cot', leaves)


@pytest.mark.parametrize('sizes', [(0, 3), (3, 0)])
def test_bad_input(sizes):
    with pytest.raises(ValueError, match='must be positive'):
        LorentzLinear(*sizes)
