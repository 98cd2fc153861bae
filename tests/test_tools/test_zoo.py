"""The small checkpoints that are trained here since none can be downloaded."""

from __future__ import annotations

import json

import pytest
import torch

from hyper_mm.engine.records import code_digest
from tests.conftest import REPO
from tests.helpers.tools import load_tool

tool = load_tool('zoo.py')
ENTRIES = json.loads(tool.MANIFEST.read_text(encoding='utf-8'))['checkpoints']


@pytest.mark.parametrize('name', ENTRIES)
def test_entries_are_complete(name):
    entry = ENTRIES[name]
    assert (REPO / 'configs' / entry['config']).is_file()
    assert {'metric', 'expected', 'tolerance', 'minutes', 'source'} <= entry.keys()
    assert entry['tolerance'] > 0 and entry['minutes'] < 30
    for _, script, *_ in entry.get('makes', ()):
        assert (REPO / script).is_file()
    documented = (REPO / 'docs/zoo.md').read_text(encoding='utf-8')
    assert f'`{name}`' in documented


def test_digest_is_of_names_shapes_and_bits():
    state = dict(a=torch.zeros(2, 3), b=torch.ones(1, dtype=torch.long))
    first = tool.digest(state)
    assert first == tool.digest(dict(reversed(list(state.items()))))
    others = (
        dict(state, a=torch.zeros(3, 2)),
        dict(state, a=torch.full((2, 3), -0.0)),
        dict(state, a=torch.zeros(2, 3, dtype=torch.int)),
        dict(c=state['a'], b=state['b']),
    )
    assert len({first, *map(tool.digest, others)}) == 5


def test_figure_is_the_last_of_that_name():
    text = 'aAcc: 71.0 mIoU: 12.5\n ... lm/perplexity: 2.94e+01  mIoU: 13.25  time: 0.1'
    assert tool.figure(text, 'mIoU') == 13.25 and tool.figure(text, 'lm/perplexity') == 29.4
    with pytest.raises(ValueError, match='no mDice'):
        tool.figure(text, 'mDice')


def found(**changes):
    return dict(dict(wanted=dict(iterations=None), figure=10.0, sha256='x'), **changes)


def test_verdict():
    entry = dict(metric='mIoU', expected=11.0, tolerance=1.5, sha256='x')
    assert tool.verdict(entry, found())[0] and 'as recorded' in tool.verdict(entry, found())[1]
    assert 'other bits' in tool.verdict(entry, found(sha256='y'))[1]
    good, text = tool.verdict(entry, found(figure=8.0))
    assert not good and 'NOT as expected' in text
    assert tool.verdict(dict(entry, expected=None), found(figure=8.0))[0]
    assert tool.verdict(entry, found(figure=0.0, wanted=dict(iterations=2)))[0]
    assert 'made by other code' in tool.verdict(entry, found(code='x'))[1]
    assert 'code' not in tool.verdict(entry, found(code=code_digest()))[1]


def test_a_result_is_of_the_config_as_it_is(tmp_path, monkeypatch):
    work, config, calls = tmp_path / 'zoo', tmp_path / 'configs' / 'a.py', []
    config.parent.mkdir()
    entry = dict(config='a.py', metric='mIoU')

    def run(script, arguments, log):
        calls.append(script)
        checkpoint = work / 'a' / 'iter_1.pth'
        if script == 'tools/train.py':
            assert not checkpoint.exists()  # else it would be gone on with
            torch.save(dict(state_dict=dict(x=torch.ones(1))), checkpoint)
            (work / 'a' / 'last_checkpoint').write_text(str(checkpoint))
        return f'mIoU: {len(calls)}'

    monkeypatch.setattr(tool, 'REPO', tmp_path)
    monkeypatch.setattr(tool, 'run', run)
    config.write_text('lr = 0.1\n')
    assert tool.make('a', entry, work, None)['figure'] == 2
    assert tool.make('a', entry, work, None)['figure'] == 2
    config.write_text('lr = 0.2\n')
    with pytest.warns(UserWarning, match='was of another config: it is kept as'):
        assert tool.make('a', entry, work, None)['figure'] == 4
    assert calls == ['tools/train.py', 'tools/test.py'] * 2
    (aside,) = work.glob('old_a_*')
    assert json.loads((aside / 'result.json').read_text())['figure'] == 2


def test_what_is_missing_is_left_out_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('HYPER_MM_DATA', str(tmp_path))
    assert tool.main(['--only', 'deit-t_camvid', '--work-dir', str(tmp_path / 'zoo')]) == 0
    assert f'left out, no data in {tmp_path / "camvid"}' in capsys.readouterr().out
    assert tool.main(['--list']) == 0
    assert 'himapper_part-scenes: ' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        tool.main(['--only', 'nothing'])


@pytest.mark.slow
def test_a_checkpoint_of_two_iterations(tmp_path, capsys, monkeypatch):
    """Data is generated, trained on by the stock runner and tested; a second call does nothing."""
    pytest.importorskip('mmseg')
    arguments = ['--only', 'himapper_part-scenes', '--work-dir', str(tmp_path)]
    arguments += ['--iterations', '2']
    assert tool.main(arguments) == 0
    folder = tmp_path / 'himapper_part-scenes_2-iterations'
    result = json.loads((folder / 'result.json').read_text())
    weights = torch.load(result['checkpoint'], weights_only=False)['state_dict']
    assert result['sha256'] == tool.digest(weights) and 0 <= result['figure'] <= 100
    assert 'after 2 iterations' in capsys.readouterr().out

    def never(*args):
        raise AssertionError(args)

    monkeypatch.setattr(tool, 'run', never)
    assert tool.main(arguments) == 0
