"""All benchmarks in one run: what is collected, compared and written. No time is measured here."""

from __future__ import annotations

import json

import pytest

from tests.helpers.tools import TOOLS, load_tool

FAKE = """
import sys
from timing import note
assert sys.argv[1:] == ['--fast', '--threads', '1'], sys.argv
note('ours over theirs', [{values}], seconds=0.5)
note('size', [3.0], 'MiB')
print('measured')
"""


@pytest.fixture
def tool(tmp_path, monkeypatch):
    pytest.importorskip('mmengine')
    pytest.importorskip('matplotlib')
    tool = load_tool('benchmarks/run_all.py')
    scripts = tmp_path / 'scripts'
    scripts.mkdir()
    timing = (TOOLS / 'benchmarks/timing.py').read_text()
    (scripts / 'timing.py').write_text(timing)
    (scripts / 'good.py').write_text(FAKE.format(values='1.0, 2.0, 4.0') + "\n'--threads'\n")
    (scripts / 'bad.py').write_text("raise SystemExit('no')\n")
    monkeypatch.setattr(tool, 'HERE', scripts)
    monkeypatch.setattr(tool, 'BENCHMARKS', dict(good=tool.Sizes('', '--fast'), bad=tool.Sizes()))
    return tool


def test_every_benchmark_is_run():
    tool = load_tool('benchmarks/run_all.py')
    there = {path.stem for path in (TOOLS / 'benchmarks').glob('*.py')}
    assert there == {*tool.BENCHMARKS, *tool.HELPERS}


def test_every_benchmark_notes_its_figures_and_takes_the_arguments():
    tool = load_tool('benchmarks/run_all.py')
    for name, sizes in tool.BENCHMARKS.items():
        text = (TOOLS / 'benchmarks' / f'{name}.py').read_text()
        assert 'note(' in text or 'name=' in text, name
        for word in f'{sizes.whole} {sizes.quick}'.split():
            if word.startswith('--'):
                assert f"'{word}'" in text, (name, word)


def test_report_plot_and_history(tool, tmp_path, capsys):
    out = tmp_path / 'out'
    assert tool.main(['--quick', '--only', 'good', '--out', str(out)]) == 0
    (tool.HERE / 'good.py').write_text(FAKE.format(values='3.0') + "\n'--threads'\n")
    assert tool.main(['--quick', '--only', 'good', 'bad', '--out', str(out)]) == 1
    first, second = (json.loads(line) for line in (out / 'history.jsonl').open())
    figure, size = first['figures']
    assert (figure['low'], figure['median'], figure['high']) == (1.5, 2.0, 3.0)
    assert figure['benchmark'] == 'good' and figure['rounds'] == 3 and size['unit'] == 'MiB'
    assert first['machine']['versions']['torch'] and second['failed'] == ['bad']
    text = (out / 'report.md').read_text()
    assert '| good | ours over theirs | 3 times | 3 to 3 | 1 | lower | 2 |' in text
    assert '**bad failed**' in text and (out / 'bad.log').read_text() == 'no\n'
    assert (out / 'report.png').stat().st_size > 1000
    assert 'report.png' in capsys.readouterr().out


def test_other_machines_and_sizes_are_not_compared(tool, tmp_path):
    history = tmp_path / 'history.jsonl'
    row = dict(benchmark='a', name='b', median=1.0)
    entry = dict(quick=True, threads=1, machine=dict(processor='x'), figures=[row])
    others = [dict(entry, quick=False), dict(entry, machine=dict(processor='y'))]
    history.write_text('\n'.join(map(json.dumps, others)) + '\n')
    assert tool.earlier(history, entry) == {}
    history.write_text(json.dumps(entry) + '\n')
    assert tool.earlier(history, entry) == {('a', 'b'): row}
