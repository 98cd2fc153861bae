"""Rotary encoding of positions."""

import pytest
import torch

from hyper_mm.layers.lorentz.hope import HoPE

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute
from ...helpers.lorentz import check

FILES = golden_files('helm_layers*.npz')
both = pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
files = pytest.mark.parametrize('file', FILES)


@files
@both
def test_golden_hope(file, dtype):
    g = Golden(file, dtype)
    x = g['hope.x'].requires_grad_()
    layer = HoPE(x.shape[-1])
    check(g, dtype, layer(x), 'hope.y', 'hope.cot', {'hope.grad_x': x})
    limit = 3e-6 if dtype == torch.float32 else 1e-9
    assert absolute(layer(x, start=11), g.exact('hope.y_offset11')) < limit


@pytest.mark.parametrize(
    'build',
    [
        lambda: HoPE(5),
        lambda: HoPE(4, base=0.0),
    ],
)
def test_bad_input(build):
    with pytest.raises(ValueError, match='must be'):
        build()
