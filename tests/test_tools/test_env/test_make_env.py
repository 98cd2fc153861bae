"""Tests of the environment and of the requirement files that it is made from."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers.tools import load_tool
from tests.test_tools.test_env.test_mmcv_wheel import write_wheel

ROOT = Path(__file__).resolve().parents[3]
OPENMMLAB = ('mmengine', 'mmcv', 'mmseg', 'mmdet', 'mmpretrain', 'onedl')


@pytest.fixture
def make_env():
    return load_tool('env/make_env.py')


def pins(name: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines():
        match = re.match(r'([\w.-]+)==([^\s;#]+)', line)
        if match:
            found.setdefault(match[1].lower().replace('_', '-'), set()).add(match[2])
    return found


@pytest.mark.parametrize('stack', ['openmmlab', 'onedl'])
def test_stack_is_pinned(stack, make_env):
    found = pins(stack)
    frameworks = [name for name in found if name.startswith(OPENMMLAB)]
    assert len(frameworks) == 5
    assert {'torch', 'torchvision', make_env.STACKS[stack].mmcv} <= set(found)
    text = make_env.STACKS[stack].requirements.read_text()
    unpinned = re.findall(r'^(?:torch|mm|onedl)[\w-]*(?=[^\w=-]|$)', text, re.MULTILINE)
    assert not unpinned


@pytest.mark.parametrize('name', ['openmmlab', 'onedl', 'bench'])
def test_constraints_agree_with_the_pins(name, make_env):
    constraints = pins('constraints')
    for package, versions in pins(name).items():
        if package not in {stack.mmcv for stack in make_env.STACKS.values()}:
            assert constraints[package] == versions


def test_stamp(make_env, tmp_path):
    stack = make_env.STACKS['openmmlab']
    mark = make_env.fingerprint(stack)
    assert mark == make_env.fingerprint(stack)
    assert mark != make_env.fingerprint(make_env.STACKS['onedl'])
    assert mark != make_env.fingerprint(stack, tmp_path), 'a moved checkout is installed again'
    assert not make_env.is_current(tmp_path, mark)
    (tmp_path / make_env.STAMP_NAME).write_text(mark)
    assert not make_env.is_current(tmp_path, mark), 'without a Python it is no environment'
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin' / 'python').touch()
    assert make_env.is_current(tmp_path, mark)
    assert not make_env.is_current(tmp_path, mark + '0')


@pytest.mark.parametrize('file', ['openmmlab.txt', 'constraints.txt', 'tests.txt', 'build.txt'])
def test_a_changed_requirement_outdates_the_environment(make_env, monkeypatch, tmp_path, file):
    shutil.copytree(ROOT / 'requirements', tmp_path / 'requirements')
    folder = tmp_path / 'requirements'
    monkeypatch.setattr(make_env, 'REQUIREMENTS', folder)
    monkeypatch.setattr(make_env, 'CONSTRAINTS', folder / 'constraints.txt')
    monkeypatch.setattr(
        make_env, 'EXTRA_REQUIREMENTS', (folder / 'tests.txt', folder / 'bench.txt')
    )
    stack = make_env.STACKS['openmmlab']
    before = make_env.fingerprint(stack)
    with (folder / file).open('a') as stream:
        stream.write('# changed\n')
    assert make_env.fingerprint(stack) != before


def test_main_installs_once(make_env, monkeypatch, tmp_path):
    calls = []

    def install(stack, venv, version):
        calls.append((stack.name, version))
        (venv / 'bin').mkdir(parents=True)
        (venv / 'bin' / 'python').touch()

    monkeypatch.setattr(make_env, 'ROOT', tmp_path)
    monkeypatch.setattr(make_env, 'fingerprint', lambda stack: 'mark')
    monkeypatch.setattr(make_env, 'install', install)
    monkeypatch.setattr(make_env.signal, 'signal', lambda *args: None)
    assert make_env.main(['--stack', 'onedl', '--python', '']) == 0
    assert make_env.main(['--stack', 'onedl']) == 0
    assert calls == [('onedl', None)]


def test_failed_installation_leaves_no_stamp(make_env, monkeypatch, tmp_path, capsys):
    def install(stack, venv, version):
        raise make_env.EnvError('no network')

    monkeypatch.setattr(make_env, 'ROOT', tmp_path)
    monkeypatch.setattr(make_env, 'fingerprint', lambda stack: 'mark')
    monkeypatch.setattr(make_env, 'install', install)
    monkeypatch.setattr(make_env.signal, 'signal', lambda *args: None)
    assert make_env.main([]) == 1
    assert 'no network' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_cached_wheel_is_not_built_again(make_env, target, monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(make_env, 'probe', lambda venv: target)
    built = []
    monkeypatch.setattr(make_env, 'build_wheel', lambda *args: built.append(args))
    make_env.mmcv_wheel(make_env.STACKS['openmmlab'], tmp_path)
    assert len(built) == 1
    folder = built[0][2]
    folder.mkdir(parents=True)
    wheel = write_wheel(folder)
    assert make_env.mmcv_wheel(make_env.STACKS['openmmlab'], tmp_path) == wheel
    assert len(built) == 1


def test_uv_is_fetched_where_it_does_not_run(make_env, monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    private = tmp_path / 'hyper_mm' / 'uv' / 'bin' / 'uv'
    calls = []

    def runs(command):
        calls.append(command)
        if '--target' in command:
            private.parent.mkdir(parents=True)
            private.touch()
        return command[0] == sys.executable or (command[0] == str(private) and private.exists())

    monkeypatch.setattr(make_env.shutil, 'which', lambda name: '/shims/uv')
    monkeypatch.setattr(make_env, 'runs', runs)
    assert make_env.find_uv() == str(private)
    assert make_env.find_uv() == str(private)
    assert sum('--target' in command for command in calls) == 1
