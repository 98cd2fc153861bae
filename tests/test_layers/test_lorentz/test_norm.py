"""Norm and residual connection of points."""

import pytest
import torch

from hyper_mm.layers.lorentz.norm import LorentzResidual, LorentzRMSNorm
from hyper_mm.ops import lorentz

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute
from ...helpers.lorentz import check

FILES = golden_files('helm_layers*.npz')
both = pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
files = pytest.mark.parametrize('file', FILES)


@files
@both
def test_golden_norm(file, dtype):
    g = Golden(file, dtype)
    layer = LorentzRMSNorm(g['x'].shape[-1]).to(dtype)
    layer.load_state_dict({'weight': g['rms.gamma']})
    x = g['x'].requires_grad_()
    y = layer(x)
    limit = 3e-6 if dtype == torch.float32 else 1e-9
    assert absolute(lorentz.time(y, g['c']), g.exact('rms.time')) < limit
    check(g, dtype, y, 'rms.y', 'cot', {'rms.grad_x': x, 'rms.grad_gamma': layer.weight})


@files
@both
@pytest.mark.parametrize('suffix', ['', '_noscale'])
def test_golden_residual(file, dtype, suffix):
    g = Golden(file, dtype)
    layer = LorentzResidual(1.0 if suffix else g.exact('res.scale').item()).to(dtype)
    layer.load_state_dict({'weight': g['res.w_y']})
    x, y, c = (g[k].requires_grad_() for k in ('x', 'res.y_in', 'c'))
    leaves = {'x': x, 'y_in': y, 'w_y': layer.weight, 'c': c}
    leaves = {f'res.grad_{k}{suffix}': v for k, v in leaves.items()}
    check(g, dtype, layer(x, y, c), f'res.out{suffix}', 'cot', leaves)


def test_zero_vectors_have_finite_gradients():
    x = torch.zeros(2, 4, requires_grad=True)
    LorentzResidual()(LorentzRMSNorm(4)(x), x, 1.0).sum().backward()
    assert x.grad.isfinite().all()


def test_autocast_leaves_norms_and_sums_alone():
    x, y = torch.randn(2, 3, 8)
    norm, residual = LorentzRMSNorm(8), LorentzResidual(2.0)
    with torch.autocast('cpu', torch.bfloat16):
        found = residual(norm(x), y, 0.7)
    assert torch.equal(found, residual(norm(x), y, 0.7))


@pytest.mark.parametrize(
    'build',
    [
        lambda: LorentzRMSNorm(0),
        lambda: LorentzResidual(-1.0),
        lambda: LorentzResidual(1.0, weight=0.0),
        lambda: LorentzResidual(float('nan')),
        lambda: LorentzRMSNorm(3, eps=float('nan')),
    ],
)
def test_bad_input(build):
    with pytest.raises(ValueError, match='must be'):
        build()
