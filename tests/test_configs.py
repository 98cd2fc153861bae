"""All configs parse and build; twins differ in what they should and in nothing else."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmseg')

from mmengine.config import Config  # noqa: E402
from mmengine.registry import MODELS, init_default_scope  # noqa: E402

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
NAMES = sorted(path.name for path in CONFIGS.glob('*.py'))
TWINS = [
    (name, name.removeprefix('himapper_'))
    for name in NAMES
    if name.startswith('himapper_') and (CONFIGS / name.removeprefix('himapper_')).exists()
]
OWN_KEYS = {'model.type', 'model.neck', 'model.backbone.output_cls_token'}


def differences(a: object, b: object, path: str = '') -> set[str]:
    """Paths of the keys in which two configs differ; a key that one lacks counts as a whole."""
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return set() if a == b else {path}
    found = set()
    for key in a.keys() | b.keys():
        place = f'{path}.{key}'.lstrip('.')
        found |= differences(a[key], b[key], place) if key in a and key in b else {place}
    return found


def without_weights(model: dict) -> dict:
    model = copy.deepcopy(model)
    model['pretrained'] = None
    model['backbone']['init_cfg'] = None
    return model


@pytest.mark.mmseg
@pytest.mark.parametrize('name', NAMES)
def test_config_builds(name, monkeypatch):
    # what a model is initialised to plays no part here, and takes most of the time
    for function in ('kaiming_uniform_', 'uniform_', 'normal_', 'trunc_normal_', 'xavier_uniform_'):
        monkeypatch.setattr(torch.nn.init, function, lambda tensor, *args, **kwargs: tensor)
    cfg = Config.fromfile(CONFIGS / name)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(without_weights(cfg.model))
    assert sum(p.numel() for p in model.parameters()) > 1e6
    neck = getattr(model, 'neck', None)
    assert (neck is not None) == name.startswith('himapper_')
    opening = (CONFIGS / name).read_text().splitlines()
    header = '\n'.join(line for line in opening[:8] if line.startswith('#'))
    assert f'tools/train.py configs/{name}' in header


@pytest.mark.parametrize('name, twin', TWINS)
def test_twins_differ_in_nothing_else(name, twin):
    ours, plain = (Config.fromfile(CONFIGS / n) for n in (name, twin))
    found = differences(ours.to_dict(), plain.to_dict())
    assert {'model.type', 'model.neck'} <= found <= OWN_KEYS


def test_there_are_twins():
    assert len(TWINS) >= 5


def test_differences_are_found():
    a, b = dict(x=dict(y=1, z=[2]), w=0), dict(x=dict(y=1, z=[3]), v=dict(u=0))
    assert differences(a, b) == {'x.z', 'w', 'v'}
    assert differences(a, copy.deepcopy(a)) == set()


def test_config_by_inheritance_is_the_same_model():
    ours = Config.fromfile(CONFIGS / 'himapper_deit-s_ade20k.py')
    inherited = Config.fromfile(CONFIGS / 'himapper_deit-s_ade20k_mmseg-base.py')
    weights = {'model.pretrained', 'model.backbone.init_cfg', 'model._scope_'}
    model = dict(model=inherited.model), dict(model=ours.model)
    assert differences(*model) <= weights
