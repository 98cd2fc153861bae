"""The lazy registries: the table of components, and types that load by themselves."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip('mmengine')

from mmengine.config import Config  # noqa: E402

import hyper_mm  # noqa: E402
from hyper_mm import registry  # noqa: E402
from tests.conftest import ONEDL  # noqa: E402
from tests.helpers import runs  # noqa: E402

REPO = Path(__file__).resolve().parents[1]
LIBRARIES = ('mmseg', 'mmdet', 'mmpretrain')
WITHOUT = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *args):
        blocked = name.split('.')[0] in {blocked!r}
        return None if blocked else self.finder.find_spec(name, *args)
    def __getattr__(self, name):  # find_distributions
        return getattr(self.finder, name)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


def python(code: str, blocked: tuple[str, ...] = ()) -> str:
    """Runs code in a fresh process where some libraries are not installed."""
    done = subprocess.run(
        [sys.executable, '-c', WITHOUT.format(blocked=blocked) + code],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=runs.TIMEOUT,
        env={**os.environ, **runs.ENVIRONMENT},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def registries() -> dict[str, registry.LazyRegistry]:
    return {r.name: r for r in vars(registry).values() if isinstance(r, registry.LazyRegistry)}


# the table


def test_table_is_what_the_modules_register():
    missing = [name for name in (*LIBRARIES, 'open_clip') if not importlib.util.find_spec(name)]
    if missing:
        pytest.skip(f'needs {missing}')
    for module in pkgutil.walk_packages(hyper_mm.__path__, 'hyper_mm.'):
        importlib.import_module(module.name)
    found = registries()
    assert found.keys() == registry.COMPONENTS.keys()
    for name, child in found.items():
        assert sorted(child._module_dict) == sorted(registry.COMPONENTS[name])
        for component, (module, *_) in registry.COMPONENTS[name].items():
            assert child.get(component).__module__ == f'hyper_mm.{module}'


def test_every_library_has_a_package_name():
    used = {
        library
        for components in registry.COMPONENTS.values()
        for _, *libraries in components.values()
        for library in libraries
    }
    assert used <= registry.PACKAGES.keys()


def test_names_are_free_in_the_libraries():
    """A name that a library has too would hide behind it where the scope is left out."""
    # stock classes, with our losses or a repair
    allowed = {
        *('EncoderDecoder', 'CascadeEncoderDecoder', 'MultimodalEncoderDecoder'),
        *('SegLocalVisualizer', 'DetLocalVisualizer', 'ImageClassifier'),
        *('MaskRCNN', 'FasterRCNN', 'CascadeRCNN', 'RetinaNet'),
    }
    for library in LIBRARIES:
        if not importlib.util.find_spec(library):
            continue
        theirs = importlib.import_module(f'{library}.registry')
        importlib.import_module(f'{library}.utils').register_all_modules(init_default_scope=False)
        for name, components in registry.COMPONENTS.items():
            for child in vars(theirs).values():
                if getattr(child, 'name', None) == name and hasattr(child, 'module_dict'):
                    assert not (components.keys() - allowed) & child.module_dict.keys()


# look-up


def test_components_load_when_asked_for():
    code = """
from mmengine.registry import MODELS
assert not any(m.startswith('hyper_mm') for m in sys.modules)
import hyper_mm.registry
loaded = set(sys.modules)
kind = MODELS.get('hyper_mm.HiMapper')
new = {m for m in set(sys.modules) - loaded if m.startswith('hyper_mm.models')}
assert kind.__module__ == 'hyper_mm.models.necks.hi_mapper' and kind.__module__ in new
assert not any('segmentors' in m for m in new), new
assert kind is hyper_mm.registry.MODELS.get('HiMapper')
from hyper_mm.models import HiMapper
assert kind is HiMapper
"""
    python(code, blocked=('mmseg', 'mmdet', 'mmpretrain', 'open_clip'))


def test_unknown_names():
    from mmengine.registry import MODELS

    with pytest.raises(KeyError, match='hyper_mm.NoSuchThing is not in the'):
        MODELS.build(dict(type='hyper_mm.NoSuchThing'))
    with pytest.raises(AttributeError, match="no model 'NoSuchThing'"):
        importlib.import_module('hyper_mm.models').NoSuchThing  # noqa: B018


@pytest.mark.parametrize(
    'kind, name, library',
    [
        (kind, name, library)
        for kind, components in registry.COMPONENTS.items()
        for name, (_, *libraries) in components.items()
        for library in libraries
    ],
)
def test_component_of_a_missing_library_says_what_to_install(monkeypatch, kind, name, library):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        registry.importlib.util,
        'find_spec',
        lambda n, *a: None if n == library else find_spec(n, *a),
    )
    child = registries()[kind]
    monkeypatch.setattr(child, '_module_dict', {})
    with pytest.raises(ImportError) as error:
        child.build(dict(type=f'hyper_mm.{name}'))
    message = str(error.value)
    assert f'pip install {registry.PACKAGES[library]}' in message
    assert '\n' not in message and name in message


# imports


def test_ops_and_layers_need_torch_alone():
    code = """
import torch, hyper_mm, hyper_mm.ops, hyper_mm.layers
tree = dict(num_leaves=8, num_levels=3)
mapper = hyper_mm.layers.HierarchyMapper(16, tree=tree, width=8, num_heads=2)
mapper(torch.randn(2, 9, 16), torch.randn(2, 1, 16))
import hyper_mm.datasets.part_scenes
assert hyper_mm.__all__ == ['__version__', 'apply_hyperclip', 'lite_clip']
hyper_mm.apply_hyperclip(torch.nn.MultiheadAttention(16, 2), block_size=4)
"""
    python(code, blocked=('mmengine', 'mmcv', *LIBRARIES, 'open_clip', 'timm'))


def test_import_is_light():
    code = """
import hyper_mm
heavy = {'mmcv', 'mmseg', 'mmdet', 'mmpretrain', 'open_clip', 'timm', 'mmengine.runner'}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    python(code)


# configs of the libraries, with one component added


SCRIPT = """
import os
import sys
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

def build(path, imports):
    cfg = Config.fromfile(path)
    cfg.merge_from_dict({options!r})
    init_default_scope(cfg.default_scope)
    assert imports or not any(name.startswith('hyper_mm') for name in sys.modules)
    model = MODELS.build(cfg.model)
    kinds = [type(module).__module__ for module in model.modules()]
    assert 'hyper_mm.models.necks.hi_mapper' in kinds
    print('built', type(model).__module__, flush=True)
"""
SMALL = dict(num_leaves=8, num_levels=3, width=16)
STOCK = {
    'mmseg': (
        'mmseg::vit/vit_deit-s16_upernet_8xb2-160k_ade20k-512x512.py',
        {
            'model.type': 'hyper_mm.EncoderDecoder',
            'model.pretrained': None,
            'model.backbone.output_cls_token': True,
            'model.backbone.num_layers': 2,
            'model.backbone.out_indices': (0, 0, 1, 1),
            'model.neck': dict(_delete_=True, type='hyper_mm.HiMapper', in_channels=384, **SMALL),
        },
    ),
    'mmdet': (
        'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
        {
            'model.backbone.init_cfg': None,
            'model.neck': dict(
                _delete_=True,
                type='hyper_mm.HiMapper',
                in_channels=[256, 512, 1024, 2048],
                neck=dict(
                    type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5
                ),
                **SMALL,
            ),
        },
    ),
    'mmpretrain': (
        'mmpretrain::resnet/resnet18_8xb32_in1k.py',
        {
            'model.neck': dict(
                _delete_=True,
                type='hyper_mm.HiMapper',
                in_channels=[512],
                neck=dict(type='GlobalAveragePooling'),
                **SMALL,
            ),
        },
    ),
}


def stock(library: str) -> tuple[str, dict]:
    """A stock config and its changes; by its path where mmengine does not find it by name."""
    config, options = STOCK[library]
    if ONEDL:
        root = Path(importlib.util.find_spec(library).origin).parent / '.mim' / 'configs'
        config = str(root / config.split('::')[1])
    return config, options


@pytest.mark.mmseg
def test_configs_of_mmseg_are_found_by_name_on_both_stacks(monkeypatch, tmp_path):
    """OneDL's mmengine asks for a distribution that its own mmsegmentation does not have."""
    pytest.importorskip('mmseg')
    (tmp_path / 'config.py').write_text(f'_base_ = {STOCK["mmseg"][0]!r}\n')
    assert Config.fromfile(tmp_path / 'config.py').model.type == 'EncoderDecoder'
    known = {'onedl-mmsegmentation', 'mmdet'}

    def distribution(name):
        if name not in known:
            raise registry.PackageNotFoundError(name)
        return SimpleNamespace(metadata={'Name': name})

    monkeypatch.setattr(registry, 'distribution', distribution)
    assert registry._installed('mmsegmentation') == 'onedl-mmsegmentation'
    assert registry._installed('mmdet') == 'mmdet'
    assert registry._installed('nothing') == 'nothing'


FORKED = """
import {library}.models
assert not any(name.startswith('hyper_mm') for name in sys.modules)
for imports, path in {configs!r}.items():  # each in a process where nothing has imported hyper_mm
    child = os.fork()
    if not child:
        build(path, imports)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize(
    'library',
    [
        pytest.param('mmseg', marks=pytest.mark.mmseg),
        pytest.param('mmdet', marks=[pytest.mark.mmdet, pytest.mark.slow]),
        pytest.param('mmpretrain', marks=[pytest.mark.mmpretrain, pytest.mark.slow]),
    ],
)
def test_stock_config_takes_a_component(tmp_path, library):
    """Without and with ``custom_imports``."""
    pytest.importorskip(library)
    config, options = stock(library)
    plain, imports = tmp_path / 'plain.py', tmp_path / 'imports.py'
    plain.write_text(f'_base_ = {config!r}\n')
    imports.write_text("_base_ = 'plain.py'\ncustom_imports = dict(imports=['hyper_mm'])\n")
    configs = {False: str(plain), True: str(imports)}
    code = SCRIPT.format(options=options) + FORKED.format(library=library, configs=configs)
    assert python(code).split().count('built') == 2


@pytest.mark.slow
@pytest.mark.parametrize('library', LIBRARIES)
def test_with_one_library_installed(library, tmp_path):
    pytest.importorskip(library)
    config, options = stock(library)
    local = tmp_path / 'config.py'
    local.write_text(f'_base_ = {config!r}\n')
    code = f'{SCRIPT.format(options=options)}\nbuild({str(local)!r}, True)\n'
    others = tuple(name for name in LIBRARIES if name != library)
    python('import hyper_mm\nhyper_mm.register_all_modules()\n' + code, blocked=others)
