"""The page of LatHAdapter's tables, from files of finished runs; no training here."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip('mmpretrain')
pytest.importorskip('open_clip')
pytestmark = pytest.mark.mmpretrain

from hyper_mm.engine import runs  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402


@pytest.fixture
def tool():
    return load_tool('experiments/few_shot_study.py')


@pytest.fixture
def args(tool, tmp_path):
    return tool.parse_args(
        ['--hosts', 'promptkd', 'promptsrc', '--sets', 'omniglot', '--shots', '1', '4']
        + ['--seeds', '1', '2', f'--work-dir={tmp_path}', f'--out={tmp_path / "page.md"}']
    )


def test_calls(tool, args):
    calls = tool.calls(args)
    taught = [call.method.endswith('promptkd') for call in calls]
    assert taught == [call.taught for call in calls] == sorted(taught)  # teachers first
    runs = {
        (c.method, c.arm, c.protocol, name, shots, seed)
        for c in calls
        for name in c.sets
        for shots in c.shots
        for seed in c.seeds
    }
    assert len(runs) == sum(len(c.sets) * len(c.shots) * len(c.seeds) for c in calls)
    # zero-shot; two hosts with and without, of two seeds; their arms, with the most shots
    assert len(runs) == 2 + 4 * 2 * (2 + 1) + 2 * 2 * 2
    assert ('lathadapter_promptkd', 'counts', 'few_shot', 'omniglot', 4, 2) in runs
    for call in calls:
        most = call.protocol == 'few_shot' and call.shots == [4]
        assert call.term == (call.method.startswith('lath') and most)


def test_arms_differ_by_their_options(tool, args):
    few_shot = load_tool('few_shot.py')
    given = {}
    for call in tool.calls(args):
        own = few_shot.parse_args(tool.arguments_of(call, args))  # each is a call that it takes
        given.setdefault((call.method, call.arm), own)
    bare = given['lathadapter_promptsrc', 'no-losses']
    assert bare.cfg_options == {f'model.head.weights.{n}': 0 for n in ('hcls', 'va', 'at')}
    assert given['lathadapter_promptsrc', 'counts'].cfg_options == {'model.head.hyp_tau': 0.016}
    assert len({own.name for own in given.values()}) == len(given)
    assert bare.discard and bare.teacher is None and bare.steps == args.steps
    assert not given['promptsrc', ''].discard  # PromptKD needs its checkpoints
    taught = given['lathadapter_promptkd', 'counts']
    assert few_shot.teacher_args(taught).name == given['promptsrc', ''].name


def test_page(tool, args, monkeypatch):
    few_shot = load_tool('few_shot.py')

    def run(script, arguments, log):
        own = few_shot.parse_args(arguments)
        term = dict(accuracy=50.0, cosine=49.0, hyperbolic=40.0, changed=2.0, spread=0.016)
        term['predictions'] = [0, 1, 2, 3] if '+' in own.name else [0, 1, 2, 2]
        found = [
            dict(
                set=name, shots=shots, seed=seed, half=half,
                accuracy=10.0 * shots + seed + own.method.startswith('lath'),
                **(dict(term=term) if own.term else {}),
            )
            for name in own.datasets for shots in own.shots for seed in own.seeds
            for half in (('base', 'new') if own.protocol == 'base2new' else ('all',))
        ]  # fmt: skip
        own.json.write_text(json.dumps(found))

    monkeypatch.setattr(runs, 'run_script', run)
    text = tool.page(args, tool.run_all(args))
    lines = text.splitlines()
    assert '| PromptSRC | 11.50 ± 0.71 | 41.50 ± 0.71 |' in lines
    assert '| difference | 1.00 ± 0.00 | 1.00 ± 0.00 |' in lines
    assert '| PromptSRC | 41.50 ± 0.71 | 41.50 ± 0.71 | 41.50 ± 0.71 |' in lines
    row = next(line for line in lines if line.startswith('| PromptSRC, omniglot'))
    assert [cell.split(' ')[1] for cell in row.split('|')[2:-1]] == (
        ['1.60', '2.00', '50.00', '49.00', '25.00', '50.00', '1.60', '2.00', '50.00']
    )


def test_summary_of_the_terms():
    term = load_tool('experiments/hyperbolic_term.py')
    cosine = torch.tensor([[2.0, 0.0], [1.0, 0.0]])
    hyperbolic = torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    found = term.summary(cosine, hyperbolic, torch.tensor([0, 0]))
    assert found == dict(
        accuracy=50, cosine=100, hyperbolic=0, changed=50, spread=pytest.approx(4 / 3),
        predictions=[0, 1],
    )  # fmt: skip
