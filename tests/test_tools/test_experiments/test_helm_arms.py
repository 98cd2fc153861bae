"""Language models at the best of a few learning rates: what is chosen, and what is reported."""

from __future__ import annotations

import argparse

import pytest

pytest.importorskip('mmseg')

from tests.conftest import REPO  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402

CONFIG = 'configs/helm/helm-d_mini_hierarcaps.py'


@pytest.fixture
def tool(monkeypatch):
    module = load_tool('experiments/helm_arms.py')
    monkeypatch.chdir(REPO)
    return module


def test_config_of_a_run(tool):
    arm = ['official', CONFIG, 'model.decoder.init_std=None']
    cfg = tool.config_of(arm, 1e-3, 7, 50, 'tune')
    assert cfg.model.decoder.init_std is None and cfg.optim_wrapper.optimizer.lr == 1e-3
    assert cfg.train_cfg.max_iters == 50 and cfg.randomness.seed == 7
    assert [s.end for s in cfg.param_scheduler] == [30, 50]
    assert cfg.test_dataloader.dataset.split == 'tune' and cfg.val_dataloader is None
    plain = tool.config_of(arm, 1e-3, 7, None, None)
    assert plain.train_cfg.max_iters == 400 and plain.test_dataloader.dataset.split == 'val'
    assert [s.end for s in plain.param_scheduler] == [30, 400]


def test_the_best_rate_of_each_arm(tool, monkeypatch, tmp_path):
    best, calls = {'a': 1e-3, 'b': 4e-3}, []

    def run(cfg, folder):
        name, rate = folder.parent.name.split('_lr')[0], cfg.optim_wrapper.optimizer.lr
        calls.append((name, rate, cfg.randomness.seed, cfg.test_dataloader.dataset.split))
        tuning = cfg.test_dataloader.dataset.split == 'tune'
        value = 10 + abs(rate - best[name]) * 1e3 if tuning else 20.0 + cfg.randomness.seed
        if tuning and rate == 2e-3:
            value = float('nan')
        key, seed = 'decoder/blocks.1.ffn.{}.0'.format, cfg.randomness.seed
        first = {key('curvatures'): 0.5, key('shared_curvatures'): 1.0, 'loss': 1.0}
        last = {key('curvatures'): 0.5, key('shared_curvatures'): 1.0 + seed, 'loss': 0.1}
        found = dict(first=first, last=last) if name == 'b' else dict(first={}, last={})
        return dict(metrics={tool.METRIC: value}, seconds=0.1, trained=5, **found)

    monkeypatch.setattr(tool, 'run', run)
    args = argparse.Namespace(
        arm=[['a', CONFIG], ['b', CONFIG]],
        rates=[1e-3, 2e-3, 4e-3],
        tune_iters=40,
        iters=60,
        seeds=[3, 5],
        work_dir=tmp_path,
        threads=1,
        curvatures=True,
    )
    text = tool.compare(args)
    finals = [call for call in calls if call[3] == 'val']
    assert finals == [(n, best[n], seed, 'val') for n in 'ab' for seed in (3, 5)]
    assert all(call[2] == 3 for call in calls if call[3] == 'tune') and len(calls) == 10
    assert '| a | 10.00 | nan | 13.00 | 0.001 |' in text
    assert '| b | 13.00 | nan | 10.00 | 0.004 |' in text
    assert '| a | 23.00 | 25.00 | 24.00 ± 1.00 |' in text
    # shared: 4 and 6, from 1
    assert text.endswith('| b | 1 | 0.50, 1.00 | 0.50 ± 0.00, 5.00 ± 1.00 | 1.79 |')
    args.curvatures = False
    assert tool.compare(args) == text[: text.index('\n\nCurvatures of experts')]
