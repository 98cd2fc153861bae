"""Configs of prompted CLIP: twins, sets by name, the test of both halves."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('mmpretrain')

from mmengine.config import Config  # noqa: E402

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'lathadapter'
TWINS = sorted(CONFIGS.glob('lathadapter_*_vit-b16_*.py'))


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}_vit-b16_caltech101.py')


@pytest.mark.parametrize('path', TWINS, ids=[path.stem for path in TWINS])
def test_adapter_is_the_only_difference_to_the_host(path):
    ours = Config.fromfile(path).to_dict()
    host = Config.fromfile(CONFIGS / path.name.removeprefix('lathadapter_')).to_dict()
    assert ours['model'].pop('head')['type'] == 'hyper_mm.LatHAdapterHead'
    assert ours == host


def test_hosts_are_complete():
    hosts = {path.name.removeprefix('lathadapter_') for path in TWINS}
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
