"""Rules of components hold wherever a component is, and in all configs alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip('mmengine')

from mmengine.config import Config  # noqa: E402
from mmengine.model import BaseModule, Sequential  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

from hyper_mm.registry import MODELS  # noqa: E402

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'
LR, DECAY = 0.5, 0.25
SMALL = dict(
    type='hyper_mm.HiMapper', in_channels=8, num_leaves=8, num_levels=3, width=8, num_heads=2
)
WITHOUT_DECAY = (
    'mapper.tree.mu',
    'mapper.tree.logvar',
    'mapper.lift.curvature.log',
    'mapper.lift.alpha.log',
    'fusion.gate',
    'mapper.decomposer.block.norm1.weight',
    'mapper.decomposer.memory_proj.0.weight',
    'mapper.decomposer.memory_proj.1.bias',
)


def options_of(model: nn.Module, **paramwise) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter."""
    wrapper = build_optim_wrapper(
        model,
        dict(
            constructor='hyper_mm.ComponentOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=LR, weight_decay=DECAY),
            paramwise_cfg=paramwise,
        ),
    )
    return resolved(model, wrapper)


def resolved(model: nn.Module, wrapper) -> dict[str, tuple[float, float]]:
    groups = {id(p): g for g in wrapper.optimizer.param_groups for p in g['params']}
    named = {name: groups[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    return {name: (group['lr'], group['weight_decay']) for name, group in named.items()}


def of_component(options: dict, path: str) -> dict:
    return {n[len(path) + 1 :]: o for n, o in options.items() if n.startswith(f'{path}.')}


class Host(BaseModule):
    def __init__(self, **parts: nn.Module):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def himapper(**options) -> nn.Module:
    return MODELS.build({**SMALL, **options})


def test_hi_mapper_has_one_multiplier_and_no_decay_on_what_is_no_matrix():
    found = of_component(options_of(Host(neck=himapper())), 'neck')
    assert {lr for lr, _ in found.values()} == {10 * LR}
    assert set(WITHOUT_DECAY) <= found.keys()
    for name, (_, decay) in found.items():
        matrix = name.endswith('.weight') and 'norm' not in name and '_proj.0.' not in name
        plain = name in WITHOUT_DECAY or not matrix or name.endswith('memory_proj.2.weight')
        assert decay == (0 if plain else DECAY), name


PLACES = {
    'list of necks': (lambda: Host(neck=Sequential(himapper(), nn.Linear(8, 8))), 'neck.0'),
    'last of a list': (lambda: Host(neck=Sequential(nn.Linear(8, 8), himapper())), 'neck.1'),
    'inside of a model': (lambda: Host(model=Host(encoder=himapper())), 'model.encoder'),
    'by itself': (lambda: Host(x=himapper()).x, ''),
    'behind a wrapper': (lambda: Host(module=Host(neck=himapper())), 'module.neck'),
}


@pytest.mark.parametrize('make, path', PLACES.values(), ids=PLACES)
def test_place_plays_no_part(make, path):
    expected = of_component(options_of(Host(neck=himapper())), 'neck')
    found = options_of(make())
    assert (of_component(found, path) if path else found) == expected


def test_an_inner_stock_neck_is_not_the_component():
    inner = dict(type='hyper_mm.SimpleFeaturePyramid', in_channels=8, out_channels=8)
    found = options_of(Host(neck=himapper(neck=inner)))
    assert of_component(found, 'neck.mapper') == of_component(
        options_of(Host(neck=himapper())), 'neck.mapper'
    )
    stock = {n: o for n, o in found.items() if n.startswith('neck.neck.')}
    assert stock and set(stock.values()) == {(LR, DECAY)}


def test_words_of_the_tree_belong_to_it():
    tree = himapper(type='hyper_mm.HiMapperTree', competition=True)
    found = options_of(Host(neck=tree))
    assert found['neck.norms.0.weight'] == (10 * LR, 0)


def test_a_new_model_has_one_learning_rate():
    found = options_of(Host(neck=himapper(), head=nn.Linear(2, 2)), component_lr_mult=1.0)
    assert {lr for lr, _ in found.values()} == {LR}
    assert found['neck.mapper.tree.mu'] == (LR, 0)


def test_no_key_resets_what_it_does_not_mention():
    host = Host(backbone=Host(norm=nn.LayerNorm(4), head=nn.Linear(2, 2)), neck=himapper())
    keys = {'backbone': dict(lr_mult=0.1), 'backbone.norm': dict(decay_mult=0.0)}
    keys['neck.mapper.encoder.blocks'] = dict(decay_mult=0.5)
    found = options_of(host, custom_keys=keys)
    assert found['backbone.norm.weight'] == (0.1 * LR, 0)
    assert found['backbone.head.weight'] == (0.1 * LR, DECAY)
    assert found['neck.mapper.encoder.blocks.0.proj.weight'] == (10 * LR, 0.5 * DECAY)
    assert found['neck.mapper.tree.mu'] == (10 * LR, 0)


def test_other_rules_are_those_of_mmengine():
    host = Host(head=nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), neck=himapper())
    found = options_of(host, norm_decay_mult=0.0, bias_lr_mult=2.0)
    assert found['head.0.weight'] == (LR, DECAY)
    assert found['head.0.bias'] == (2 * LR, DECAY)
    assert found['head.1.weight'] == (LR, 0)
    assert found['neck.mapper.decomposer.query_proj.1.bias'] == (10 * LR, 0)


def test_frozen_parameters_are_left_out():
    neck = himapper()
    neck.mapper.tree.requires_grad_(False)
    assert not [n for n in options_of(Host(neck=neck)) if '.tree.' in n]


@pytest.mark.parametrize(
    'cfg, message',
    [
        (
            dict(paramwise_cfg=dict(component_lr_mult=0)),
            'component_lr_mult must be positive, got 0',
        ),
        (dict(optimizer=dict(type='Adadelta')), 'optimizer must have an lr, got'),
        (
            dict(paramwise_cfg=dict(norm_decay_mul=0)),
            r"got \['norm_decay_mul'\], did you mean 'norm_decay_mult'",
        ),
        (dict(paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mul=2)))), 'lr_mul'),
    ],
)
def test_bad_arguments(cfg, message):
    optimizer = dict(type='AdamW', lr=1.0)
    constructor = 'hyper_mm.ComponentOptimWrapperConstructor'
    with pytest.raises(ValueError, match=message):
        build_optim_wrapper(
            Host(neck=himapper()), dict(optimizer=optimizer, constructor=constructor) | cfg
        )


NAMES = sorted(
    path.relative_to(CONFIGS).as_posix()
    for folder in ('himapper', 'lorentz_vit')
    for path in (CONFIGS / folder).glob('*.py')
    if path.name.startswith(('himapper', 'lorentz-vit'))
)
NEW = ('part-scenes', 'camvid', 'tiny-imagenet', 'omniglot', 'breeds', 'bccd', 'coco-mini',
       'efficientnet-lite0')  # fmt: skip
"""Configs that start from random weights, or from a checkpoint with the module in it, or have the
learning rate of new parts as their own and a smaller one for the backbone."""


@pytest.mark.mmseg
@pytest.mark.parametrize('name', NAMES)
def test_components_are_optimized_alike_in_all_configs(name):
    for framework in ('mmseg', 'mmdet', 'mmpretrain'):
        pytest.importorskip(framework)
    cfg = Config.fromfile(CONFIGS / name)
    init_default_scope(cfg.default_scope)
    parts = [p for p in ('neck', 'backbone') if 'hyper_mm.' in cfg.model.get(p, {}).get('type', '')]
    assert parts
    built = {p: MODELS.build(dict(cfg.model[p], init_cfg=None)) for p in parts}
    host = Host(**built)
    lr, decay = (cfg.optim_wrapper.optimizer[k] for k in ('lr', 'weight_decay'))
    found = resolved(host, build_optim_wrapper(host, cfg.optim_wrapper))
    new = any(data in name for data in NEW) and 'finetune' not in name
    for full, (own_lr, own_decay) in found.items():
        part, path = full.split('.', 1)
        parameter = host.get_parameter(full)
        stock = part == 'neck' and path.startswith('neck.')
        if stock or type(built[part]).__name__ == 'SimpleFeaturePyramid':
            assert own_lr == pytest.approx(lr), full
            continue
        plain = (
            parameter.ndim < 2 or 'mapper.tree' in path or path.endswith(('_token', 'pos_embed'))
        )
        assert own_decay == pytest.approx(0 if plain else decay), full
        if part == 'neck':
            assert own_lr == pytest.approx(lr if new else 10 * lr), full
        else:
            assert own_lr == pytest.approx(lr * (0.5 if 'mini_camvid' in name else 1)), full


@pytest.mark.mmseg
def test_config_on_a_stock_base_equals_its_sibling():
    pytest.importorskip('mmseg')
    init_default_scope('mmseg')
    found = []
    for name in ('himapper_deit-s_ade20k.py', 'himapper_deit-s_ade20k_mmseg-base.py'):
        cfg = Config.fromfile(CONFIGS / 'himapper' / name)
        host = Host(neck=MODELS.build(cfg.model.neck))
        found.append(resolved(host, build_optim_wrapper(host, cfg.optim_wrapper)))
    assert found[0] == found[1]


def test_learning_rates_reach_the_optimizer():
    host = Host(neck=himapper())
    wrapper = build_optim_wrapper(
        host,
        dict(
            constructor='hyper_mm.ComponentOptimWrapperConstructor',
            optimizer=dict(type='SGD', lr=0.125),
        ),
    )
    before = host.neck.mapper.tree.mu.detach().clone()
    host.neck.mapper.tree.mu.sum().backward()
    wrapper.optimizer.step()
    torch.testing.assert_close(host.neck.mapper.tree.mu, before - 1.25)


@pytest.mark.parametrize('constructor', ['Component', 'Hyperbolic'])
def test_runs_of_before_single_numbers_were_vectors_go_on(constructor):
    def build():
        model = Host(neck=himapper())
        cfg = dict(
            constructor=f'hyper_mm.{constructor}OptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=1e-3),
        )
        return model, build_optim_wrapper(model, cfg)

    def step(model, wrapper):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        wrapper.optimizer.step()

    step(*(first := build()))
    state = first[1].state_dict()
    for entry in state['state'].values():
        for name, value in entry.items():
            if name != 'step' and value.shape == (1,):
                entry[name] = value.squeeze(0)
    model, wrapper = build()
    wrapper.load_state_dict(state)
    step(model, wrapper)
    assert wrapper.optimizer.state[model.neck.mapper.lift.alpha.log]['step'] == 2
