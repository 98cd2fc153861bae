"""Configs of prompted CLIP: matched baselines, sets by name, the test of both halves."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('mmpretrain')

from mmengine.config import Config  # noqa: E402

from hyper_mm.datasets.few_shot import SETS  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'lathadapter'
ADAPTED = sorted(CONFIGS.glob('lathadapter_*_vit-b16_*.py'))


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}_vit-b16_caltech101.py')


@pytest.mark.parametrize('path', ADAPTED, ids=[path.stem for path in ADAPTED])
def test_adapter_is_the_only_difference_to_the_host(path):
    ours = Config.fromfile(path).to_dict()
    host = Config.fromfile(CONFIGS / path.name.removeprefix('lathadapter_')).to_dict()
    assert ours['model'].pop('head')['type'] == 'hyper_mm.LatHAdapterHead'
    assert ours == host


def test_hosts_are_complete():
    hosts = {path.name.removeprefix('lathadapter_') for path in ADAPTED}
    assert {name.split('_')[0] for name in hosts} == {'maple', 'promptsrc', 'promptkd'}


@pytest.mark.parametrize('name', ['coop', 'lathadapter_maple', 'promptkd'])
def test_set_by_name(monkeypatch, name):
    monkeypatch.setenv('HYPER_MM_SET', 'dtd')
    cfg = load(name)
    loaders = [cfg[f'{split}_dataloader'].dataset for split in ('train', 'val', 'test')]
    assert [(x.name, x.split) for x in loaders] == [
        ('dtd', 'train'), ('dtd', 'test'), ('dtd', 'test'),
    ]  # fmt: skip
    assert [x.subsample for x in loaders[1:]] == ['base', 'new']
    assert len(loaders[0].pipeline) == 4 and len(loaders[1].pipeline) == 4


@pytest.mark.parametrize(
    ('name', 'classes', 'attributes'),
    [('imagenet', 500, 20), ('caltech101', 50, 4), ('sun397', 199, 8), ('dtd', 24, 4)],
)
def test_attributes_follow_the_set(monkeypatch, name, classes, attributes):
    monkeypatch.setenv('HYPER_MM_SET', name)
    for host in ('maple', 'promptsrc'):
        head = load(f'lathadapter_{host}').model.head
        assert head.num_classes == classes
        assert len(MODELS.build(head).refiner.attributes) == attributes
    assert load('lathadapter_promptkd').model.head.num_classes in (2 * classes, 2 * classes - 1)


def test_every_set_has_its_number_of_classes(monkeypatch):
    for name in SETS:
        monkeypatch.setenv('HYPER_MM_SET', name)
        assert load('zeroshot').num_classes > 1
    monkeypatch.setenv('HYPER_MM_SET', 'folders')
    with pytest.raises(ValueError, match='num_attributes needs num_classes'):
        MODELS.build(load('lathadapter_maple').model.head)


def test_schedule():
    for name, epochs, rate in (
        ('maple', 5, 0.0035),
        ('promptsrc', 20, 0.0025),
        ('coop', 50, 0.002),
    ):
        cfg = load(name)
        warm, cosine = cfg.param_scheduler
        assert cfg.train_cfg.max_epochs == cosine.T_max == epochs
        assert cfg.optim_wrapper.optimizer.lr * warm.factor == pytest.approx(1e-5)
        assert cfg.optim_wrapper.optimizer.lr == rate


def test_zero_shot():
    cfg = load('zeroshot')
    assert cfg.test_evaluator == dict(type='hyper_mm.BaseNewAccuracy')
    assert cfg.test_dataloader.dataset.subsample == 'all' and 'prompts' not in cfg.model
    assert 'train_dataloader' not in cfg


def test_both_halves_by_options():
    cfg = load('lathadapter_maple')
    options = {
        'test_dataloader.dataset.subsample': 'all',
        'test_evaluator._delete_': True,
        'test_evaluator.type': 'hyper_mm.BaseNewAccuracy',
        'custom_hooks.1.halves': True,
    }
    cfg.merge_from_dict(options)
    assert cfg.test_evaluator == dict(type='hyper_mm.BaseNewAccuracy')
    assert cfg.custom_hooks[1] == dict(type='hyper_mm.DatasetVocabularyHook', halves=True)
