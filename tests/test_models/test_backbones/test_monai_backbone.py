"""Networks of MONAI as backbones."""

import pytest
import torch

pytest.importorskip('monai')

from hyper_mm.registry import MODELS  # noqa: E402


def build(net, **options):
    return MODELS.build(dict(type='hyper_mm.MonaiBackbone', net=net, **options))


def test_a_network_gives_a_map_and_keeps_its_initialization():
    torch.manual_seed(0)
    options = dict(spatial_dims=2, in_channels=3, out_channels=5, features=(4,) * 6)
    model = build('BasicUNet', **options)
    before = {n: p.clone() for n, p in model.named_parameters()}
    model.init_weights()
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    (found,) = model(torch.randn(1, 3, 32, 48))
    assert found.shape == (1, 5, 32, 48)
    found.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_networks_that_are_none_or_give_no_map():
    with pytest.raises(ValueError, match='BasicU[Nn]et'):
        build('BasicUnett')
    model = build('Classifier', in_shape=(1, 8, 8), classes=2, channels=(4,), strides=(2,))
    with pytest.raises(TypeError, match='maps'):
        model(torch.randn(1, 1, 8, 8))
