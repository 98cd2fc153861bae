"""Every tool says at once how it is called."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from tests.helpers.tools import TOOLS

HEAVY = {
    'torch', 'torchvision', 'mmengine', 'mmcv', 'mmseg', 'mmdet', 'mmpretrain', 'hyper_mm', 'cv2',
    'matplotlib', 'open_clip', 'scipy', 'transformers',
}  # fmt: skip
SCRIPTS = sorted(
    str(path.relative_to(TOOLS))
    for path in TOOLS.rglob('*.py')
    if "__name__ == '__main__'" in path.read_text(encoding='utf-8')
)
SHELL = sorted(path.name for path in TOOLS.glob('*.sh'))


def test_all_are_found():
    assert len(SCRIPTS) > 30 and len(SHELL) == 4


@pytest.mark.parametrize('name', SCRIPTS)
def test_help_loads_no_library(name):
    """What takes seconds is loaded when it is needed."""
    command = [sys.executable, '-X', 'importtime', str(TOOLS / name), '--help']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith('usage: ')
    loaded = set(re.findall(r'^import time:.*\|\s*([\w.]+)$', done.stderr, re.MULTILINE))
    assert 'argparse' in loaded
    assert not {module.split('.')[0] for module in loaded} & HEAVY


@pytest.mark.parametrize('name', SHELL)
def test_shell_tools_say_what_they_need(name):
    if shutil.which('bash') is None:
        pytest.skip('bash is not installed')
    for given in ([], ['one']):
        done = subprocess.run(['bash', str(TOOLS / name), *given], capture_output=True, text=True)
        assert done.returncode == 2 and 'unbound' not in done.stderr
        assert done.stderr.startswith(f'bash tools/{name} ') and 'CONFIG' in done.stderr


def test_tools_leave_the_search_path_alone():
    """Scripts of one folder import each other, as Python has it; what all need is in hyper_mm."""
    for path in TOOLS.rglob('*.py'):
        assert not re.search(r'sys\.path\b', path.read_text(encoding='utf-8')), path
