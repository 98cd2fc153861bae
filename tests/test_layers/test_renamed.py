"""Old names of switches and functions of layers and ops still work."""

import pytest
import torch

from hyper_mm.layers import (
    HyperCLIPAdapter,
    LatentHierarchyLoss,
    LorentzRMSNorm,
    LorentzVisionTransformer,
    MiCE,
    PrototypeClassifier,
)
from hyper_mm.layers.lorentz.euclidean import MoE
from hyper_mm.layers.lorentz.hope import HoPE
from hyper_mm.ops import fused, unfused


@pytest.mark.parametrize('kind', [MiCE, MoE])
@pytest.mark.parametrize('value', [True, False])
def test_renormalise(kind, value):
    with pytest.warns(DeprecationWarning, match='renormalize'):
        layer = kind(6, 8, renormalise=value)
    assert layer.renormalize is value


def test_learnt_positions():
    options = dict(embed_dims=16, depth=1, num_heads=2, image_size=(16, 16), patch_size=8)
    with pytest.warns(DeprecationWarning, match='learned'):
        old = LorentzVisionTransformer(positions='learnt', **options)
    new = LorentzVisionTransformer(positions='learned', **options)
    assert old.state_dict().keys() == new.state_dict().keys()
    new.load_state_dict(old.state_dict())
    images = torch.randn(1, 3, 16, 16)
    assert torch.equal(old(images).points[0], new(images).points[0])


def test_dims():
    with pytest.warns(DeprecationWarning, match='embed_dims'):
        assert LorentzRMSNorm(dims=5).weight.shape == (5,)
    with pytest.warns(DeprecationWarning, match='head_dims'):
        assert HoPE(dims=4).head_dims == 4
    with pytest.raises(TypeError, match="'dims' is the old name of 'embed_dims', and both"):
        LorentzRMSNorm(dims=5, embed_dims=5)


def test_hierarchy_loss():
    with pytest.warns(DeprecationWarning) as caught:
        loss = LatentHierarchyLoss(c=0.2, neighbours=4)
    assert len(caught) == 2
    assert (loss.c, loss.neighbors) == (0.2, 4)
    x = torch.randn(3, 4)
    with pytest.warns(DeprecationWarning, match='to_ball'):
        assert torch.equal(loss.lift(x), loss.to_ball(x))


def test_learnable_curvature():
    with pytest.warns(DeprecationWarning, match='learnable=True'):
        classifier = PrototypeClassifier('lorentz', curvature=0.5, learnable_curvature=True)
    assert classifier.curvature.learnable
    assert classifier.curvature().item() == pytest.approx(0.5)


def test_targets():
    with pytest.warns(DeprecationWarning, match='projections'):
        assert HyperCLIPAdapter(targets=('q', 'out')).projections == ('q', 'out')


@pytest.mark.parametrize('module', [fused, unfused])
@pytest.mark.parametrize(
    'old, new',
    [
        ('lift', 'to_ambient'),
        ('gated_lift', 'gated_ambient'),
        ('normalise', 'normalize'),
        ('normalised_sum', 'normalized_sum'),
    ],
)
def test_functions(module, old, new):
    with pytest.warns(DeprecationWarning, match=new):
        assert getattr(module, old) is getattr(module, new)
