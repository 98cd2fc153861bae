"""Processes that end with their caller, whatever becomes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from hyper_mm.engine import runs
from hyper_mm.engine.records import FolderLock
from tests.conftest import REPO

CHILD = """
import os, pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
helper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
(folder / 'pids').write_text(f'{os.getpid()} {helper.pid}')
time.sleep(600)
"""
"""A training with a process of its own, as a data loader is."""
PARENT = """
import sys
from pathlib import Path
from hyper_mm.engine.records import FolderLock
from hyper_mm.engine.runs import run_script

if __name__ == '__main__':
    folder = Path(sys.argv[1])
    with FolderLock(folder / 'run') as lock:
        run_script(folder / 'child.py', [folder], folder / 'log', lock=lock)
"""


def script(folder, text, name='script.py'):
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def alive(pid):
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except FileNotFoundError:
        return False
    return state != 'Z'


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited too long'
        time.sleep(0.02)


@pytest.fixture
def family(tmp_path):
    """A caller, its run, and a process of that run."""
    script(tmp_path, CHILD, 'child.py')
    parent = script(tmp_path, PARENT, 'parent.py')
    process = subprocess.Popen(
        [sys.executable, str(parent), str(tmp_path)],
        env=dict(os.environ, PYTHONPATH=str(REPO)),
        # a shell's background jobs, and so their children, ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for(lambda: (tmp_path / 'pids').is_file() and ' ' in (tmp_path / 'pids').read_text())
    pids = list(map(int, (tmp_path / 'pids').read_text().split()))
    yield process, pids
    process.kill()
    process.wait()
    for pid in filter(alive, pids):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != 'linux', reason='looks into /proc')
@pytest.mark.parametrize(
    'sent',
    [
        signal.SIGKILL,
        *(pytest.param(s, marks=pytest.mark.slow) for s in (signal.SIGTERM, signal.SIGINT)),
    ],
)
def test_a_run_and_its_processes_end_with_the_caller(family, tmp_path, sent):
    process, pids = family
    assert all(map(alive, pids))
    with pytest.raises(RuntimeError, match=f'in use by process {process.pid} on .*parent.py'):
        FolderLock(tmp_path / 'run', patience=0).__enter__()
    process.send_signal(sent)
    process.wait(60)
    wait_for(lambda: not any(map(alive, pids)))
    with FolderLock(tmp_path / 'run'):
        pass


def test_value_output_environment_and_arguments(tmp_path, monkeypatch):
    monkeypatch.setenv('HYPER_MM_PROBE', 'seen')
    monkeypatch.chdir(tmp_path)
    text = """
        import os, sys
        import beside
        print(sys.argv[1:], os.getcwd(), os.environ['HYPER_MM_PROBE'], beside.NAME)
        print(os.environ['OMP_NUM_THREADS'], __name__, file=sys.stderr)
    """
    script(tmp_path, "NAME = 'sibling'", 'beside.py')
    done = runs.run_script(script(tmp_path, text), ['a b', 3], tmp_path / 'log', threads=3)
    shown = (tmp_path / 'log').read_text()
    assert f"['a b', '3'] {tmp_path} seen sibling" in shown and '3 __main__' in shown
    assert done.memory > 0 and done.seconds > 0
    assert runs.call(divmod, 7, 2, log=tmp_path / 'log').value == (3, 1)


@pytest.mark.parametrize(
    'end, message',
    [
        ('raise SystemExit(3)', 'exit code 3'),
        ("raise ValueError('what went wrong')", 'ValueError'),
        ("import sys; sys.exit('what went wrong')", 'exit code 1'),
        ('import os; os.kill(os.getpid(), 9)', 'was killed or died'),
        ('import os; os._exit(0)', 'was killed or died'),  # without having said that it is done
    ],
)
def test_a_failing_run_says_where(tmp_path, end, message):
    path = script(tmp_path, f"print('what went wrong', flush=True)\n{end}", 'train.py')
    with pytest.raises(RuntimeError, match=rf'train.py failed \({message}') as caught:
        runs.run_script(path, [], tmp_path / 'log')
    assert f'see {tmp_path / "log"}:\n' in str(caught.value)
    assert 'what went wrong' in str(caught.value)


def test_lines_are_seen_as_they_come(tmp_path):
    text = """
        import time
        for i in range(3):
            print('line', i)
            time.sleep(0.3)
        print('half', end='')
    """
    lines = []
    runs.run_script(script(tmp_path, text), [], tmp_path / 'log', on_line=lines.append)
    assert lines == ['line 0', 'line 1', 'line 2', 'half']


def test_in_parallel_keeps_the_order_and_begins_nothing_after_an_error():
    assert runs.in_parallel(lambda job: job**2, range(5), 3) == [0, 1, 4, 9, 16]
    begun = []

    def work(job):
        begun.append(job)
        if job == 1:
            raise RuntimeError('job 1')
        time.sleep(0.05)

    with pytest.raises(RuntimeError, match='job 1'):
        runs.in_parallel(work, range(100), 1)
    assert len(begun) < 100


def test_stock_script_of_a_missing_library():
    with pytest.raises(ImportError, match='no_such_library is not installed'):
        runs.stock_script('train.py', 'no_such_library')
