"""The papers' settings of prompt learners, and the schedule of Dassl."""

import math

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import ConstantLR, CosineAnnealingLR

from hyper_mm.engine.prompt_recipes import apply_recipe, recipe
from tests.conftest import REPO

CONFIGS = REPO / 'configs' / 'lathadapter'
TRAINED = [path for path in sorted(CONFIGS.glob('*.py')) if 'zeroshot' not in path.name]
HOSTS = {kind: dict(prompts=dict(type=kind)) for kind in ('CoOp', 'MaPLe', 'IVLP', 'VPT')}


@pytest.mark.parametrize(
    ('host', 'protocol', 'name', 'shots', 'expected'),
    [
        ('CoOp', 'few_shot', 'dtd', 16, dict(epochs=200)),
        ('CoOp', 'few_shot', 'dtd', 4, dict(epochs=100)),
        ('CoOp', 'few_shot', 'dtd', 1, dict(epochs=50)),
        ('CoOp', 'few_shot', 'imagenet', 16, dict(epochs=50)),
        ('IVLP', 'few_shot', 'food101', 1, dict(epochs=50, mean=30.0, std=30.0)),
        ('IVLP', 'few_shot', 'eurosat', 16, dict(epochs=50, mean=45.0, std=5.0)),
        ('IVLP', 'domain_gen', 'imagenet', 16, dict(epochs=20, depth=3, mean=6.0, std=10.0)),
        ('MaPLe', 'cross_dataset', 'imagenet', 16, dict(epochs=2, lr=0.0026, depth=3)),
        ('MaPLe', 'few_shot', 'dtd', 16, {}),
        ('VPT', 'few_shot', 'dtd', 16, {}),
        *((host, 'base2new', 'dtd', 16, {}) for host in HOSTS),
    ],
)
def test_recipes(host, protocol, name, shots, expected):
    assert recipe(HOSTS[host], protocol, name, shots) == expected


def test_bad_protocol():
    with pytest.raises(ValueError, match="got 'few-shot'"):
        recipe({}, 'few-shot', 'dtd', 16)


def test_depth_of_both_towers():
    cfg = Config.fromfile(CONFIGS / 'promptsrc_vit-b16_caltech101.py')
    apply_recipe(cfg, 'cross_dataset', 'imagenet', 16)
    assert (cfg.model.prompts.depth, cfg.model.prompts.image_depth) == (3, 3)
    assert cfg.train_cfg.val_interval == 20


@pytest.mark.parametrize('name', ['promptsrc_clip-mini_omniglot', 'zeroshot_vit-b16_caltech101'])
def test_what_is_no_recipe_of_a_paper_stays(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    before = cfg.to_dict()
    apply_recipe(cfg, 'few_shot', 'dtd', 16)
    assert cfg.to_dict() == before


def rates(cfg, epochs):
    """Learning rate of each epoch."""
    lr = cfg.optim_wrapper.optimizer.lr
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    kinds = dict(ConstantLR=ConstantLR, CosineAnnealingLR=CosineAnnealingLR)
    schedulers = [
        kinds[s['type']](optimizer, **{k: v for k, v in s.items() if k != 'type'})
        for s in cfg.param_scheduler
    ]
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return found


def test_rates_of_maple_are_those_of_its_code():
    cfg = Config.fromfile(CONFIGS / 'maple_vit-b16_caltech101.py')
    expected = [1e-5, 0.0035, 0.00317, 0.00229, 0.00121]
    assert rates(cfg, 5) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize('protocol', ['base2new', 'few_shot', 'cross_dataset'])
@pytest.mark.parametrize('path', TRAINED, ids=lambda path: path.stem)
def test_rates_count_anew_after_the_first_epoch(path, protocol):
    cfg = Config.fromfile(path)
    apply_recipe(cfg, protocol, 'imagenet', 16)
    lr, epochs = cfg.optim_wrapper.optimizer.lr, cfg.train_cfg.max_epochs
    cosine = [0.5 * lr * (1 + math.cos(math.pi * epoch / epochs)) for epoch in range(epochs - 1)]
    assert rates(cfg, epochs) == pytest.approx([1e-5, *cosine])
