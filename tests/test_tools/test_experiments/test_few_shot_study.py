"""The page of LatHAdapter's tables, from files of finished runs; no training here."""

from __future__ import annotations

import json
import sys

import pytest
import torch

pytest.importorskip('mmpretrain')
pytest.importorskip('open_clip')
pytestmark = pytest.mark.mmpretrain

from tests.conftest import REPO  # noqa: E402
from tests.test_tools.test_experiments.test_compare_arms import load  # noqa: E402

TOOLS = REPO / 'tools' / 'experiments'


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.syspath_prepend(REPO / 'tools')
    for name in ('few_shot', 'tool_process', 'compare_arms'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return load(TOOLS / 'few_shot_study.py')


@pytest.fixture
def args(tool, tmp_path):
    return tool.parse_args(
        ['--hosts', 'promptkd', 'promptsrc', '--sets', 'omniglot', '--shots', '1', '4']
        + ['--seeds', '1', '2', f'--work-dir={tmp_path}', f'--out={tmp_path / "page.md"}']
    )


def test_jobs(tool, args):
    keys = [key for key, _ in tool.jobs(args)]
    taught = [key[0].endswith('promptkd') for key in keys]
    assert taught == sorted(taught)  # teachers first
    assert len(keys) == len(set(keys))
    # zero-shot; two hosts with and without, of two seeds; their arms, with the most shots
    assert len(keys) == 2 + 4 * 2 * (2 + 1) + 2 * 2 * 2
    assert ('lathadapter_promptkd', 'counts', 'few_shot', 'omniglot', 4, 2) in keys


class Images(list):
    metainfo = dict(classes=('a', 'b', 'c'))


def test_arms_differ_by_their_options(tool, args, monkeypatch):
    monkeypatch.setattr(tool.few_shot.DATASETS, 'build', lambda config: Images(range(12)))
    own = tool.runner_args(args, 'lathadapter_promptsrc', 'few_shot', ['omniglot'], 'no-losses')
    cfg = tool.few_shot.run_config(own, 'omniglot', 'omniglot', 'all', 4, 1)
    assert cfg.model.head.weights == dict(hcls=0, va=0, at=0) and cfg.model.head.num_classes == 3
    assert cfg.train_cfg.max_epochs == args.steps  # one step an epoch
    assert (
        own.name != tool.runner_args(args, 'lathadapter_promptsrc', 'few_shot', ['omniglot']).name
    )
    assert own.discard and own.teacher is None
    kept = tool.runner_args(args, 'promptsrc', 'few_shot', ['omniglot'])
    assert not kept.discard  # PromptKD needs its checkpoints
    taught = tool.runner_args(args, 'promptkd', 'few_shot', ['omniglot'])
    assert tool.few_shot.teacher_args(taught).name == kept.name


def test_page(tool, args, monkeypatch):
    def accuracies(own, train, tests, shots, seed, term=False):
        for name, half in tests:
            folder = tool.few_shot.test_folder(own, train, shots, seed, name, half)
            folder.mkdir(parents=True, exist_ok=True)
            found = dict(accuracy=50.0, cosine=49.0, hyperbolic=40.0, changed=2.0, spread=0.016)
            predictions = [0, 1, 2, 3] if '+' in own.name else [0, 1, 2, 2]
            (folder / 'term.json').write_text(json.dumps(dict(found, predictions=predictions)))
        return [10.0 * shots + seed + own.method.startswith('lath')] * len(tests)

    monkeypatch.setattr(tool.few_shot, 'accuracies', accuracies)
    text = tool.page(args, tool.run_all(args))
    lines = text.splitlines()
    assert '| PromptSRC | 11.50 ± 0.71 | 41.50 ± 0.71 |' in lines
    assert '| difference | 1.00 ± 0.00 | 1.00 ± 0.00 |' in lines
    row = next(line for line in lines if line.startswith('| PromptSRC, omniglot'))
    assert [cell.split(' ')[1] for cell in row.split('|')[2:-1]] == (
        ['1.60', '2.00', '50.00', '49.00', '25.00', '50.00', '1.60', '2.00', '50.00']
    )


def test_summary_of_the_terms():
    term = load(TOOLS / 'hyperbolic_term.py')
    cosine = torch.tensor([[2.0, 0.0], [1.0, 0.0]])
    hyperbolic = torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    found = term.summary(cosine, hyperbolic, torch.tensor([0, 0]))
    assert found == dict(
        accuracy=50, cosine=100, hyperbolic=0, changed=50, spread=pytest.approx(4 / 3),
        predictions=[0, 1],
    )  # fmt: skip
