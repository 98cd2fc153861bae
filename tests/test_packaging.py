"""Tests of the set-up: package definition, requirement files, environment and wheel cache."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

import pytest

from tests.helpers.tools import load_tool

ROOT = Path(__file__).resolve().parents[1]
MIM = ('configs/folder/probe.py', 'tools/probe.py', 'model-index.yml')
OPENMMLAB = ('mmengine', 'mmcv', 'mmseg', 'mmdet', 'mmpretrain', 'onedl')


@pytest.fixture
def make_env():
    return load_tool('env/make_env.py')


@pytest.fixture
def mmcv_wheel():
    return load_tool('env/mmcv_wheel.py')


@pytest.fixture
def target(mmcv_wheel):
    return mmcv_wheel.Target('2.11.0+cu130', 'cp311', 'linux_x86_64', cuda='13.0')


@pytest.fixture(scope='module')
def source(tmp_path_factory) -> Path:
    """A copy of what a build reads, so that none writes into the checkout."""
    folder = tmp_path_factory.mktemp('source')
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE'):
        shutil.copy(ROOT / name, folder)
    ignore = shutil.ignore_patterns('__pycache__', '.mim')
    shutil.copytree(ROOT / 'hyper_mm', folder / 'hyper_mm', ignore=ignore)
    for name in ('configs/folder', 'tools'):
        (folder / name).mkdir(parents=True)
        (folder / name / 'probe.py').write_text('x = 1\n')
    (folder / 'model-index.yml').write_text('Import: []\n')
    return folder


def python(*args: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run([sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# the package


def definition(monkeypatch) -> dict:
    seen = {}
    monkeypatch.setattr('setuptools.setup', lambda **kwargs: seen.update(kwargs))
    monkeypatch.chdir(ROOT)
    runpy.run_path('setup.py')
    return seen


def test_requires_no_openmmlab_package(monkeypatch):
    seen = definition(monkeypatch)
    names = {re.match(r'[\w-]+', item)[0].lower() for item in seen['install_requires']}
    assert names == {'torch', 'numpy'}
    assert not any('==' in item or '<' in item for item in seen['install_requires'])
    extras = seen['extras_require']
    assert {'mmseg', 'mmdet', 'mmpretrain', 'clip', 'all', 'tests'} <= set(extras)
    for name in ('mmseg', 'mmdet', 'mmpretrain', 'clip'):
        assert set(extras[name]) <= set(extras['all'])


def test_one_version(monkeypatch):
    from hyper_mm.version import __version__

    assert definition(monkeypatch)['version'] == __version__


def test_installing_moves_no_other_package(source):
    pytest.importorskip('pip')
    args = ('install', '--dry-run', '--quiet', '--report', 'report.json')
    python('-m', 'pip', *args, '--no-index', '--no-build-isolation', '-e', '.', cwd=source)
    planned = json.loads((source / 'report.json').read_text())['install']
    assert [item['metadata']['name'].replace('-', '_') for item in planned] == ['hyper_mm']


def test_wheel_holds_every_package_and_mim_folder(source):
    code = "from setuptools import build_meta; build_meta.build_wheel('out')"
    python('-c', code, cwd=source)
    with zipfile.ZipFile(next((source / 'out').glob('*.whl'))) as wheel:
        names = set(wheel.namelist())
    modules = {str(file.relative_to(source)) for file in source.glob('hyper_mm/**/*.py')}
    modules = {name for name in modules if '/.mim/' not in name}
    assert modules <= names, 'is an __init__.py missing?'
    mim = {f'hyper_mm/.mim/{n}' for n in MIM}
    assert mim <= names


@pytest.mark.slow
def test_mim_finds_every_config_of_an_installed_wheel(source, tmp_path):
    pytest.importorskip('mim')
    folder = tmp_path / 'source'
    shutil.copytree(source, folder)
    for name in ('configs', 'tools'):
        shutil.rmtree(folder / name)
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / 'model-index.yml', folder)
    code = "from setuptools import build_meta; build_meta.build_wheel('out')"
    python('-c', code, cwd=folder)
    site = tmp_path / 'site'
    with zipfile.ZipFile(next((folder / 'out').glob('*.whl'))) as wheel:
        wheel.extractall(site)
    env = dict(os.environ, PYTHONPATH=str(site))
    text = python('-m', 'mim', 'search', 'hyper_mm', cwd=tmp_path, env=env)
    found = re.findall(r'^config id: (\S+)', text, re.MULTILINE)
    there = [p for p in (ROOT / 'configs').rglob('*.py') if '_base_' not in p.parts]
    assert sorted(found) == sorted({p.stem for p in there})
    one = python(
        *('-m', 'mim', 'search', 'hyper_mm', '--config', 'deit-t_camvid'), cwd=tmp_path, env=env
    )
    assert 'configs/himapper/deit-t_camvid.py' in one and '22.50' in one


def test_editable_install_links_to_the_checkout(source):
    code = "from setuptools import build_meta; build_meta.build_editable('editable')"
    python('-c', code, cwd=source)
    with zipfile.ZipFile(next((source / 'editable').glob('*.whl'))) as wheel:
        paths = [wheel.read(name).decode() for name in wheel.namelist() if name.endswith('.pth')]
    assert [Path(path.strip()) for path in paths] == [source]
    for name in ('configs', 'tools', 'model-index.yml'):
        link = source / 'hyper_mm' / '.mim' / name
        assert link.is_symlink()
        assert link.resolve() == source / name


@pytest.mark.parametrize('editable', [True, pytest.param(False, marks=pytest.mark.slow)])
def test_base_config_by_the_name_of_the_package(source, tmp_path, editable):
    pytest.importorskip('mmengine')
    build = f'build_{"editable" if editable else "wheel"}'
    python('-c', f"from setuptools import build_meta; build_meta.{build}('by_name')", cwd=source)
    site = tmp_path / 'site-packages'
    with zipfile.ZipFile(next((source / 'by_name').glob('*.whl'))) as wheel:
        wheel.extractall(site)
    shutil.rmtree(source / 'by_name')
    config, stock = tmp_path / 'config.py', tmp_path / 'stock.py'
    config.write_text("_base_ = 'hyper_mm::folder/probe.py'\ny = 2\n")
    # for scripts that do not import hyper_mm before they read a config
    stock.write_text("_base_ = __import__('hyper_mm') and 'hyper_mm::folder/probe.py'\ny = 2\n")
    code = (
        'from mmengine import Config\n'
        f'assert dict(Config.fromfile({str(stock)!r})) == dict(x=1, y=2)\n'
        'import hyper_mm.registry\n'
        f'print(hyper_mm.__file__, dict(Config.fromfile({str(config)!r})))'
    )
    paths = [site, source] if editable else [site]
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, paths))}
    shown = python('-c', code, cwd=tmp_path, env=env)
    assert shown.split() == [
        *(str(paths[-1] / 'hyper_mm' / '__init__.py'), "{'x':", '1,', "'y':", '2}'),
    ]


# requirement files


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


# the wheel cache


def test_wheel_key_names_all_that_the_binary_depends_on(mmcv_wheel, target):
    key = mmcv_wheel.wheel_key('mmcv', '2.1.0', target, 'cpu')
    assert key == 'mmcv-2.1.0-torch2.11.0+cu130-cp311-linux_x86_64-cpu'
    others = [
        mmcv_wheel.wheel_key('onedl-mmcv', '2.1.0', target, 'cpu'),
        mmcv_wheel.wheel_key('mmcv', '2.2.0', target, 'cpu'),
        mmcv_wheel.wheel_key('mmcv', '2.1.0', target, 'cu130-sm90'),
    ]
    for field, value in [
        ('torch', '2.11.0+cpu'),
        ('torch', '2.11.1+cu130'),
        ('python', 'cp312'),
        ('platform', 'linux_aarch64'),
    ]:
        other = dataclasses.replace(target, **{field: value})
        others.append(mmcv_wheel.wheel_key('mmcv', '2.1.0', other, 'cpu'))
    assert len({key, *others}) == len(others) + 1
    assert all(re.fullmatch(r'[\w.+-]+', item) for item in others)


@pytest.mark.parametrize(
    ('changes', 'env', 'expected'),
    [
        ({}, {}, 'cpu'),
        ({'toolkit': '13.0'}, {}, 'cpu'),
        ({'gpus': ('9.0',)}, {}, 'cpu'),
        ({'gpus': ('9.0',), 'toolkit': '12.4'}, {}, 'cpu'),
        ({'gpus': ('9.0',), 'toolkit': '13.1'}, {}, 'cu130-sm90'),
        ({'gpus': ('8.0', '9.0'), 'toolkit': '13.0'}, {}, 'cu130-sm80-sm90'),
        (
            {'toolkit': '13.0'},
            {'FORCE_CUDA': '1', 'TORCH_CUDA_ARCH_LIST': '8.0;9.0+PTX'},
            'cu130-sm80-sm90+PTX',
        ),
        ({'cuda': None, 'hip': '6.2', 'gpus': ('9.4',)}, {}, 'rocm6.2'),
    ],
)
def test_ops_device(mmcv_wheel, target, changes, env, expected):
    assert mmcv_wheel.ops_device(dataclasses.replace(target, **changes), env) == expected


def test_forced_cuda_needs_its_compiler(mmcv_wheel, target):
    with pytest.raises(mmcv_wheel.EnvError, match='CUDA 13.0'):
        mmcv_wheel.ops_device(target, {'FORCE_CUDA': '1'})


def test_cache_follows_the_user(mmcv_wheel, tmp_path):
    root = mmcv_wheel.cache_root({'XDG_CACHE_HOME': str(tmp_path)})
    assert root == tmp_path / 'hyper_mm' / 'wheels'
    assert mmcv_wheel.cache_root({}) == Path.home() / '.cache' / 'hyper_mm' / 'wheels'


MMCV = 'mmcv==2.1.0'
WHEEL = 'mmcv-2.1.0-cp311-cp311-linux_x86_64.whl'


def write_wheel(folder: Path, text: str = 'x', name: str = WHEEL) -> Path:
    """A wheel of one module with its record."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=')
    with zipfile.ZipFile(folder / name, 'w') as wheel:
        wheel.writestr('mmcv/__init__.py', text)
        record = f'mmcv/__init__.py,sha256={digest.decode()},{len(text)}\nm.dist-info/RECORD,,\n'
        wheel.writestr('m.dist-info/RECORD', record)
    return folder / name


def test_only_a_sound_wheel_of_the_right_name_is_taken(mmcv_wheel, tmp_path):
    for name in (
        'evil-2.1.0-cp311-cp311-linux_x86_64.whl',
        'mmcv-2.1.00-cp311-cp311-linux_x86_64.whl',
        'mmcv-2.2.0-cp311-cp311-linux_x86_64.whl',
        'mmcv_lite-2.1.0-py2.py3-none-any.whl',
        'mmcv.whl',
    ):
        write_wheel(tmp_path, name=name)
    assert mmcv_wheel.cached_wheel(tmp_path, MMCV) is None
    wheel = write_wheel(tmp_path)  # as an earlier version left it, without a hash
    assert mmcv_wheel.cached_wheel(tmp_path, MMCV) == wheel
    write_wheel(tmp_path, 'another')  # sound in itself, but not what was built
    assert mmcv_wheel.cached_wheel(tmp_path, MMCV) is None
    wheel.with_name(f'{wheel.name}.sha256').unlink()
    assert mmcv_wheel.cached_wheel(tmp_path, MMCV) == wheel
    wheel.with_name(f'{wheel.name}.sha256').unlink()
    wheel.write_bytes(wheel.read_bytes().replace(b'another', b'changed'))
    assert mmcv_wheel.cached_wheel(tmp_path, MMCV) is None
    wheel.write_bytes(wheel.read_bytes()[:50])
    assert mmcv_wheel.cached_wheel(tmp_path, MMCV) is None
    link = tmp_path / 'cache'
    link.mkdir()
    (link / WHEEL).symlink_to(write_wheel(tmp_path))
    assert mmcv_wheel.cached_wheel(link, MMCV) is None


def test_a_spoilt_wheel_is_replaced(mmcv_wheel, tmp_path):
    final, built = tmp_path / 'key', tmp_path / '.building'
    for folder in (final, built):
        folder.mkdir()
        write_wheel(folder, folder.name)
    assert mmcv_wheel.cached_wheel(final, MMCV)
    (final / WHEEL).write_bytes(b'spoilt')
    assert mmcv_wheel.publish(built, final, MMCV) == final / WHEEL
    with zipfile.ZipFile(final / WHEEL) as wheel:
        assert wheel.read('mmcv/__init__.py') == b'.building'
    assert [item.name for item in tmp_path.iterdir()] == ['key']


def test_log_of_a_build_follows_no_link(mmcv_wheel, monkeypatch, tmp_path):
    """A log whose name can be guessed lets any user of the machine have a file overwritten."""
    monkeypatch.setattr(mmcv_wheel, 'check_compiler', lambda python: None)
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    victim = tmp_path / 'victim'
    victim.write_text('mine')
    (tmp_path / f'key-{os.getpid()}.log').symlink_to(victim)
    venv = fake_venv(tmp_path, 'echo overwritten; exit 1')
    with pytest.raises(mmcv_wheel.EnvError) as caught:
        mmcv_wheel.build_wheel(MMCV, venv, tmp_path / 'cache' / 'key', 'cpu')
    log = Path(re.search(r'Whole log: (.+)', str(caught.value))[1])
    assert victim.read_text() == 'mine' and log.read_text() == 'overwritten\n'
    assert log.stat().st_mode & 0o077 == 0 and str(os.getpid()) not in log.name


def test_concurrent_builds_end_in_one_wheel(mmcv_wheel, tmp_path):
    final = tmp_path / 'key'
    final.mkdir()
    results = []

    def publish(index: int) -> None:
        folder = tmp_path / f'.building-{index}'
        folder.mkdir()
        write_wheel(folder, str(index))
        results.append(mmcv_wheel.publish(folder, final, MMCV))

    threads = [threading.Thread(target=publish, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [final / WHEEL] * 8
    assert [item.name for item in tmp_path.iterdir()] == ['key']


def fake_venv(folder: Path, script: str) -> Path:
    """An environment whose Python is a shell script that stands for `pip wheel`."""
    python = folder / 'venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n{script}\n')
    python.chmod(0o755)
    return folder / 'venv'


def test_built_wheel_appears_complete(mmcv_wheel, monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(mmcv_wheel, 'check_compiler', lambda python: None)
    made = write_wheel(tmp_path)
    script = f'echo "[1/2] c++ a.o"; echo "[2/2] c++ b.o"; for f; do :; done; cp {made} "$f"'
    folder = tmp_path / 'cache' / 'key'
    venv = fake_venv(tmp_path, script)
    wheel = mmcv_wheel.build_wheel('mmcv==2.1.0', venv, folder, 'cpu')
    assert wheel == folder / WHEEL and wheel.read_bytes() == made.read_bytes()
    assert wheel.with_name(f'{WHEEL}.sha256').is_file()
    assert [item.name for item in folder.parent.iterdir()] == ['key']
    assert '[2/2]' in capfd.readouterr().err


def test_failed_build_leaves_nothing_and_shows_the_end_of_its_log(
    mmcv_wheel, monkeypatch, tmp_path
):
    monkeypatch.setattr(mmcv_wheel, 'check_compiler', lambda python: None)
    script = 'seq 100; echo "c++: fatal error: Killed signal terminated program cc1plus"; exit 1'
    venv = fake_venv(tmp_path, script)
    with pytest.raises(mmcv_wheel.EnvError) as caught:
        mmcv_wheel.build_wheel('mmcv==2.1.0', venv, tmp_path / 'cache' / 'key', 'cpu')
    message = str(caught.value)
    assert 'MAX_JOBS=1' in message
    assert 'Killed signal' in message
    assert '\n    50\n' not in message
    log = Path(re.search(r'Whole log: (.+)', message)[1])
    assert '\n50\n' in log.read_text()
    log.unlink()
    assert list((tmp_path / 'cache').iterdir()) == []


def test_missing_compiler_is_named(mmcv_wheel, monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CXX', raising=False)
    with pytest.raises(mmcv_wheel.EnvError, match=r'C\+\+ compiler'):
        mmcv_wheel.check_compiler(Path(sys.executable))


def test_cpu_build_hides_the_gpu_and_finds_ninja(mmcv_wheel, monkeypatch, tmp_path):
    monkeypatch.setenv('PYTHONPATH', '/somewhere')
    env = mmcv_wheel.build_environment(tmp_path, 'cpu')
    assert (env['MMCV_WITH_OPS'], env['FORCE_CUDA'], env['CUDA_VISIBLE_DEVICES']) == ('1', '0', '')
    assert env['PATH'].startswith(str(tmp_path / 'bin'))
    assert int(env['MAX_JOBS']) >= 1
    assert 'PYTHONPATH' not in env


def test_progress_reads_ninja(mmcv_wheel):
    stream = io.StringIO()
    progress = mmcv_wheel.Progress('mmcv', stream)
    assert 'preparing' in progress.text()
    progress.feed('  [12/77] c++ -MMD -MF nms.o.d')
    progress.feed('warning: array[3/4] is odd')
    assert '[12/77]' in progress.text()
    assert 'left' in progress.text()
    progress.feed('[77/77] c++ last.o')
    assert 'linking' in progress.text()
    progress.show(end=True)
    assert '\r' not in stream.getvalue(), 'no control characters where there is no terminal'


# the environment


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


def test_make_help_lists_the_targets():
    if shutil.which('make') is None:
        pytest.skip('make is not installed')
    shown = subprocess.run(['make', 'help'], cwd=ROOT, capture_output=True, text=True).stdout
    for name in ('env', 'demo', 'test', 'test-slow', 'lint', 'format', 'bench', 'doctor', 'clean'):
        assert re.search(rf'^make {name} ', shown, re.MULTILINE)
