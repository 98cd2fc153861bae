"""What our modules set at construction survives the ``init_cfg`` of the model around them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip('mmengine')

from mmengine.config import Config  # noqa: E402
from mmengine.model import BaseModule, ModuleList  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

from hyper_mm.models.utils.own_init import OwnInit  # noqa: E402
from hyper_mm.registry import COMPONENTS, MODELS  # noqa: E402
from tests.helpers.small_configs import with_names  # noqa: E402

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'
HIMAPPER = dict(in_channels=8, num_leaves=8, num_levels=3, width=8, num_heads=2, hyp_dim=6)
ATTENTION = dict(num_heads=2, latent_dims=3, nope_dims=2, rope_dims=2, v_dims=2)
CLASSES = {
    'HiMapper': dict(**HIMAPPER, gate_init=0.3, fusion='nodes'),
    'HiMapperPooling': dict(**HIMAPPER, zero_init_out=True),
    'HiMapperTree': dict(**HIMAPPER, competition=True),
    'SimpleFeaturePyramid': dict(in_channels=8, out_channels=4),
    'LorentzViT': dict(
        arch=dict(embed_dims=8, num_layers=2, num_heads=2),
        img_size=32,
        positions='learned',
        experts=dict(num_experts=2, top_k=1, hidden_dims=4),
    ),
    'LatHAdapterHead': dict(num_classes=3, embed_dims=8),
    'PrototypicalHead': dict(classifier=dict(distance='lorentz', curvature=dict(learnable=True))),
    'BoundaryContrastHead': dict(num_classes=3),
    'CostAggregationHead': dict(
        in_channels=8,
        guidance_channels=(4, 4),
        aggregator=dict(text_dim=8, appearance_dim=8),
    ),
    'HelmDecoder': dict(
        vocab_size=20,
        embed_dims=7,
        depth=2,
        attention=dict(type='HMLA', **ATTENTION),
        ffn=dict(type='MiCE', hidden_dims=5),
    ),
    'RadialEmbeddingLoss': dict(),
}
OVERWRITING = [
    # of everything with a weight: mmengine compares the names of bases, too
    dict(type='Normal', layer=['Module', 'Linear', 'LayerNorm', '_ConvNd'], mean=7.0, std=3.0),
    dict(type='TruncNormal', layer=['Linear', 'Conv2d', 'LayerNorm'], std=0.02),
    dict(type='Constant', layer=['LorentzLinear', 'Embedding'], val=7.0),
]


class Host(BaseModule):
    """A model of any framework."""

    def __init__(self, init_cfg=None, **parts: nn.Module):
        super().__init__(init_cfg)
        for name, part in parts.items():
            self.add_module(name, part)


def build(name: str, **options) -> nn.Module:
    return MODELS.build({'type': f'hyper_mm.{name}', **CLASSES[name], **options})


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_unchanged(module: nn.Module, before: dict[str, torch.Tensor]) -> None:
    after = module.state_dict()
    assert after.keys() == before.keys()
    assert not [name for name in before if not torch.equal(before[name], after[name])]


@pytest.mark.parametrize('cfg', OVERWRITING, ids=['all', 'layers', 'ours'])
@pytest.mark.parametrize('name', CLASSES)
@pytest.mark.parametrize('place', ['child', 'list', 'plain list', 'deep'])
def test_survives_the_init_cfg_of_a_model(name, cfg, place):
    part, other = build(name), nn.Linear(5, 5)
    before, stock = state_of(part), other.weight.clone()
    around = dict(
        child=lambda: part,
        list=lambda: ModuleList([part]),
        deep=lambda: Host(part=Host(part=part)),
    ).get(place, lambda: nn.ModuleList([part]))()
    Host(cfg, part=around, head=other).init_weights()
    assert_unchanged(part, before)
    assert (other.weight != stock).any() == (cfg['type'] != 'Constant')


@pytest.mark.parametrize('name', [n for n in CLASSES if n not in ('HelmDecoder',)])
def test_own_init_cfg_has_its_effect(name):
    if not issubclass(type(build(name)), BaseModule):
        pytest.skip('takes no init_cfg')
    part = build(name, init_cfg=dict(type='Constant', layer=['Linear', 'Conv2d'], val=0.75))
    Host(OVERWRITING[0], part=part).init_weights()
    layers = [m for m in part.modules() if type(m) in (nn.Linear, nn.Conv2d)]
    assert all((m.weight == 0.75).all() for m in layers)


@pytest.mark.parametrize('by', ['parent', 'itself'])
def test_checkpoints_are_loaded_by_whomever(tmp_path, by):
    torch.manual_seed(1)
    other = build('HiMapper')
    torch.nn.init.normal_(other.fusion.gate)
    prefix = 'part.' if by == 'parent' else ''
    torch.save({prefix + k: v for k, v in other.state_dict().items()}, tmp_path / 'a.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'))
    own = dict(init_cfg=pretrained) if by == 'itself' else {}
    part = build('HiMapper', **own)
    cfg = [*OVERWRITING, pretrained] if by == 'parent' else OVERWRITING
    Host(cfg, part=part).init_weights()
    assert_unchanged(part, state_of(other))


def test_inner_stock_modules_are_initialized_as_everywhere():
    class Stock(BaseModule):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 1)

    part = build('HiMapper')
    part.neck = Stock()
    before = state_of(part.mapper)
    Host(dict(type='Constant', layer='Conv2d', val=7.0), part=part).init_weights()
    assert (part.neck.conv.weight == 7).all()
    assert_unchanged(part.mapper, before)


def test_apply_means_what_it_says_outside_of_an_initialization():
    host, seen = Host(part=build('HiMapper')), []
    host.init_weights()
    host.apply(lambda module: seen.append(module))
    assert len(seen) == len(list(host.modules()))


class Tower(OwnInit, BaseModule):
    loaded = ('tower',)

    def __init__(self, init_cfg=None):
        super().__init__(init_cfg)
        self.tower, self.head = nn.Linear(2, 2), nn.Linear(2, 2)


def test_loaded_towers_are_not_initialized_at_all():
    model = Tower(dict(type='Constant', layer='Linear', val=7.0))
    before = state_of(model.tower)
    model.init_weights()
    assert_unchanged(model.tower, before)
    assert (model.head.weight == 7).all()


WITHOUT = ('himapper', 'metaseg', 'efficientnet_lite')
"""Folders of configs some of which have no parameters of ours: baselines."""
NAMES = sorted(
    path.relative_to(CONFIGS).as_posix()
    for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts
)


def without_checkpoints(value: object) -> object:
    """The same model, whose weights are all random."""
    if isinstance(value, dict):
        if value.get('type') == 'Pretrained':
            return None
        return type(value)(
            {k: None if k == 'pretrained' else without_checkpoints(v) for k, v in value.items()}
        )
    if isinstance(value, (list, tuple)):
        parts = (without_checkpoints(v) for v in value)
        return type(value)(v for v, old in zip(parts, value) if v is not None or old is None)
    return value


def own_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of our components by name, without those of stock modules inside of them."""
    hosts = ('EncoderDecoder', 'Segmentor', 'RCNN', 'RetinaNet', 'ImageClassifier', 'Learner')
    hosts += ('MultiTaskModel', 'BBoxHead', 'RoIHead')
    ours = {name for name in COMPONENTS['model'] if not name.endswith(hosts)}
    ours |= {'OpenVocabSegmentor'}
    found = {}

    def collect(module: nn.Module, path: str, inside: bool) -> None:
        own = type(module).__module__.startswith('hyper_mm.')
        layer = type(module).__module__.startswith('hyper_mm.layers.')  # such as an adapter's
        if layer or (own and type(module).__name__ in ours):
            inside = True
        elif isinstance(module, BaseModule) and not own:
            inside = False
        if inside:
            for name, parameter in module.named_parameters(recurse=False):
                found[f'{path}{name}'] = parameter
        for name, child in module.named_children():
            collect(child, f'{path}{name}.', inside)

    collect(model, '', False)
    return found


def kind(name: str) -> str:
    """What decides on the initialization: types, and the ``init_cfg`` around them."""
    text = (CONFIGS / name).read_text()
    if 'mmseg::' in text:
        return name

    def parts(value):
        if isinstance(value, dict):
            own = {k: v for k, v in value.items() if k in ('type', 'init_cfg')}
            return own | {k: p for k, v in value.items() if (p := parts(v)) and k != 'init_cfg'}
        if isinstance(value, (list, tuple)):
            return [p for v in value if (p := parts(v))]
        return None

    found = parts(without_checkpoints(Config.fromfile(CONFIGS / name).model.to_dict()))
    return json.dumps(found, sort_keys=True, default=str)


LARGE = ('_1b', 'l14', 'convnext-l', 'convnext-b')
FOLDERS = sorted({name.split('/')[0] for name in NAMES if '/' in name} | {'.'})


@pytest.mark.mmseg
@pytest.mark.parametrize('folder', FOLDERS)
def test_survives_the_initialization_of_every_kind_of_config(folder, tmp_path):
    """The smallest config of each kind; the others are slow."""
    names = [n for n in NAMES if n.startswith(f'{folder}/') or (folder == '.' and '/' not in n)]
    names = [n for n in names if not any(part in n for part in LARGE)]
    seen = set()
    for name in sorted(names, key=lambda n: ('mini' not in n and '-t' not in n, n)):
        found = kind(name)
        if found not in seen:
            seen.add(found)
            assert_survives(name, tmp_path)
    assert seen


@pytest.mark.slow
@pytest.mark.mmseg
@pytest.mark.parametrize('name', NAMES)
def test_survives_the_initialization_of_every_config(name, tmp_path):
    assert_survives(name, tmp_path)


def assert_survives(name: str, tmp_path: Path) -> None:
    """What mmengine's Runner calls before training; random numbers take most of the time."""
    for framework in ('mmseg', 'mmdet', 'mmpretrain'):
        pytest.importorskip(framework)
    names = ('kaiming_uniform_', 'kaiming_normal_', 'uniform_', 'normal_', 'trunc_normal_')
    names += ('xavier_uniform_', 'xavier_normal_', 'constant_', 'zeros_', 'ones_')
    constant = nn.init.constant_
    with pytest.MonkeyPatch.context() as patch:
        for n in names:
            patch.setattr(nn.init, n, lambda tensor, *args, **kwargs: tensor)
        cfg = Config.fromfile(CONFIGS / name)
        init_default_scope(cfg.default_scope)
        model_cfg = with_names(without_checkpoints(cfg.model))
        if 'text_encoder' in model_cfg:  # mmseg's SAN fails without a checkpoint: an empty one
            torch.save({}, tmp_path / 'empty.pth')
            model_cfg['pretrained'] = str(tmp_path / 'empty.pth')
        model = MODELS.build(model_cfg)
        parameters = own_parameters(model)
        with torch.no_grad():
            for parameter in parameters.values():
                parameter.fill_(0.5)
        for n in names:
            patch.setattr(nn.init, n, lambda tensor, *args, **kwargs: constant(tensor, 9.0))
        model.init_weights()
    after = own_parameters(model)
    assert after.keys() == parameters.keys(), name
    assert not [n for n, p in after.items() if not (p == 0.5).all()], name
    folder, file = name.split('/')[-2:] if '/' in name else ('', name)
    assert parameters or folder in WITHOUT or file.startswith('closed_'), name


@pytest.mark.mmpretrain
def test_closed_update_stays_closed():
    """The model's ``init_cfg`` opened it: |W_o| was 3.1, and the spread of the lift 0.02."""
    pytest.importorskip('mmpretrain')
    cfg = Config.fromfile(CONFIGS / 'himapper' / 'himapper_deit-t_part-scenes_cls.py')
    cfg.model.neck.zero_init_out = True
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    spread = model.neck.mapper.lift.proj.weight.std().item()
    model.init_weights()
    assert model.neck.mapper.encoder.out_proj[1].weight.abs().max() == 0
    assert model.neck.mapper.lift.proj.weight.std().item() == spread
    assert 0.5 < spread * 128**0.5 / 2**0.5 < 2  # kaiming by the outputs
    assert model.neck.mapper.tree.mu.std() > 1
