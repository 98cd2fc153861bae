"""All configs parse and build; baselines differ in what they should and in nothing else."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmseg')

from mmengine.config import Config  # noqa: E402
from mmengine.registry import MODELS, init_default_scope  # noqa: E402

from hyper_mm.models.necks.hi_mapper_base import HiMapperBase  # noqa: E402
from tests.helpers.small_configs import CONFIGS, NAMES, without_weights  # noqa: E402

BASELINES = [
    (name, name.replace('/himapper_', '/'))
    for name in NAMES
    if '/himapper_' in name and (CONFIGS / name.replace('/himapper_', '/')).exists()
]
OWN_KEYS = {
    'model.type',
    'model.neck',
    'model.backbone.output_cls_token',
    'model.backbone.out_type',
    'himapper_mini',  # a variable of the config
}


def differences(a: object, b: object, path: str = '') -> set[str]:
    """Paths of the keys in which two configs differ; a key that one lacks counts as a whole."""
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return set() if a == b else {path}
    found = set()
    for key in a.keys() | b.keys():
        place = f'{path}.{key}'.lstrip('.')
        found |= differences(a[key], b[key], place) if key in a and key in b else {place}
    return found


@pytest.fixture
def uninitialised(monkeypatch):
    """What a model is initialised to plays no part here, and takes most of the time."""
    for function in ('kaiming_uniform_', 'uniform_', 'normal_', 'trunc_normal_', 'xavier_uniform_'):
        monkeypatch.setattr(torch.nn.init, function, lambda tensor, *args, **kwargs: tensor)


@pytest.mark.mmseg
@pytest.mark.usefixtures('uninitialised')
@pytest.mark.parametrize(
    'name',
    [
        pytest.param(
            n,
            marks=[pytest.mark.slow] * ('convnext-l_' in n),  # seconds each
        )
        for n in NAMES
    ],
)
def test_config_builds(name):
    cfg = Config.fromfile(CONFIGS / name)
    init_default_scope(cfg.default_scope)
    with torch.device('meta' if '_1b' in name else 'cpu'):  # without the memory
        model = MODELS.build(without_weights(cfg.model))
    least = 1e5 if 'conv4' in name else 5e5
    assert sum(p.numel() for p in model.parameters()) > least
    found = any(isinstance(module, HiMapperBase) for module in model.modules())
    assert found == name.split('/')[-1].startswith('himapper')
    opening = (CONFIGS / name).read_text().splitlines()
    header = '\n'.join(line for line in opening[:8] if line.startswith('#'))
    for script in ('train', 'test'):  # the first that it has data for
        if f'{script}_dataloader' in cfg:
            assert f'tools/{script}.py configs/{name}' in header
            return
    assert 'without a data set' in header


@pytest.mark.parametrize('name, baseline', BASELINES)
def test_baselines_differ_in_nothing_else(name, baseline):
    ours, plain = (Config.fromfile(CONFIGS / n) for n in (name, baseline))
    found = differences(ours.to_dict(), plain.to_dict())
    found = {'model.neck' if key.startswith('model.neck.') else key for key in found}
    assert {'model.type', 'model.neck'} <= found <= OWN_KEYS


PARAMETERS = {  # of the modules as in the official code, by backbone
    'deit-t': 1.51e6,
    'deit-s': 1.69e6,
    'deit-b': 2.07e6,
    'swin-t': 2.07e6,
    'swin-s': 2.07e6,
    'resnet-50': 3.31e6,
    'efficientnet-b4': 3.06e6,
}


@pytest.mark.mmpretrain
@pytest.mark.parametrize('name, most', PARAMETERS.items())
def test_additional_parameters_are_no_more_than_those_of_the_released_modules(name, most):
    pytest.importorskip('mmpretrain')
    cfg = Config.fromfile(CONFIGS / 'himapper' / f'himapper_{name}_imagenet.py')
    neck = MODELS.build(cfg.model.neck)
    assert 0.8 * most < sum(p.numel() for p in neck.parameters()) <= most


IMAGENET = sorted(
    n
    for n in NAMES
    if n.endswith('_imagenet.py') and not n.startswith(('himapper/himapper_', 'lorentz_vit/'))
)
STOCK_MODELS = {
    'himapper/deit-t_imagenet.py': 'deit/deit-tiny_4xb256_in1k.py',
    'himapper/deit-s_imagenet.py': 'deit/deit-small_4xb256_in1k.py',
    'himapper/deit-b_imagenet.py': 'deit/deit-base_16xb64_in1k.py',
    'himapper/deit-t-distilled_imagenet.py': 'deit/deit-tiny-distilled_4xb256_in1k.py',
    'himapper/deit-s-distilled_imagenet.py': 'deit/deit-small-distilled_4xb256_in1k.py',
    'himapper/deit-b-distilled_imagenet.py': 'deit/deit-base-distilled_16xb64_in1k.py',
    'himapper/swin-t_imagenet.py': 'swin_transformer/swin-tiny_16xb64_in1k.py',
    'himapper/swin-s_imagenet.py': 'swin_transformer/swin-small_16xb64_in1k.py',
    'himapper/resnet-50_imagenet.py': 'resnet/resnet50_8xb32_in1k.py',
    'himapper/efficientnet-b4_imagenet.py': 'efficientnet/efficientnet-b4_8xb32_in1k.py',
}


def shapes(model: dict) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in MODELS.build(model).state_dict().items()}


@pytest.mark.mmpretrain
@pytest.mark.usefixtures('uninitialised')
@pytest.mark.parametrize('name', IMAGENET)
def test_imagenet_baselines_have_the_weights_of_the_public_checkpoints(name):
    mmpretrain = pytest.importorskip('mmpretrain')
    folder = Path(mmpretrain.__file__).parent / '.mim' / 'configs'
    init_default_scope('mmpretrain')
    ours = Config.fromfile(CONFIGS / name)
    stock = Config.fromfile(folder / STOCK_MODELS[name])
    assert shapes(ours.model) == shapes(stock.model)
    public = '\n'.join(path.read_text() for path in folder.glob('*/metafile.yml'))
    # the maintained continuation lists the same files at another host
    address = ours.load_from.split('/mmclassification/')[1]
    assert f'/mmclassification/{address}\n' in public


@pytest.mark.parametrize('name', ['camvid', 'bccd', 'tiny_imagenet', 'breeds'])
def test_small_sets_are_found_where_the_environment_says(name, monkeypatch):
    monkeypatch.delenv('HYPER_MM_DATA', raising=False)
    path = CONFIGS / '_base_' / 'datasets' / f'{name}.py'
    root = Config.fromfile(path).data_root
    assert root.startswith('data/')
    monkeypatch.setenv('HYPER_MM_DATA', '/elsewhere')
    cfg = Config.fromfile(path)
    assert cfg.data_root == root.replace('data', '/elsewhere', 1)
    assert cfg.val_dataloader.dataset.data_root == cfg.data_root


def test_there_are_baselines():
    assert len(BASELINES) >= 5


def test_differences_are_found():
    a, b = dict(x=dict(y=1, z=[2]), w=0), dict(x=dict(y=1, z=[3]), v=dict(u=0))
    assert differences(a, b) == {'x.z', 'w', 'v'}
    assert differences(a, copy.deepcopy(a)) == set()


def test_config_by_inheritance_is_the_same_model():
    ours = Config.fromfile(CONFIGS / 'himapper/himapper_deit-s_ade20k.py')
    inherited = Config.fromfile(CONFIGS / 'himapper/himapper_deit-s_ade20k_mmseg-base.py')
    weights = {'model.pretrained', 'model.backbone.init_cfg', 'model._scope_'}
    model = dict(model=inherited.model), dict(model=ours.model)
    assert differences(*model) <= weights
