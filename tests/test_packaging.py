"""Tests of the set-up: package definition, requirement files, environment and wheel cache."""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import re
import runpy
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OPENMMLAB = ('mmengine', 'mmcv', 'mmseg', 'mmdet', 'mmpretrain', 'onedl')


@pytest.fixture(scope='module', autouse=True)
def tools_on_path():
    if not (ROOT / 'tools' / 'env' / 'make_env.py').exists():
        pytest.skip('not in a checkout')
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / 'tools' / 'env')
        yield


@pytest.fixture
def make_env():
    return importlib.import_module('make_env')


@pytest.fixture
def mmcv_wheel():
    return importlib.import_module('mmcv_wheel')


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
    for name in ('configs', 'tools'):
        (folder / name).mkdir()
        (folder / name / 'probe.py').write_text('x = 1\n')
    (folder / 'model-index.yml').write_text('Import: []\n')
    return folder


def python(*args: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, *args], cwd=cwd, capture_output=True, text=True)
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
    assert f'\nversion: {__version__}\n' in (ROOT / 'CITATION.cff').read_text()


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
    mim = {f'hyper_mm/.mim/{n}' for n in ('configs/probe.py', 'tools/probe.py', 'model-index.yml')}
    assert mim <= names


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


def test_concurrent_builds_end_in_one_wheel(mmcv_wheel, tmp_path):
    final = tmp_path / 'key'
    final.mkdir()
    results = []

    def publish(index: int) -> None:
        folder = tmp_path / f'.building-{index}'
        folder.mkdir()
        (folder / 'mmcv.whl').write_text(str(index))
        results.append(mmcv_wheel.publish(folder, final))

    threads = [threading.Thread(target=publish, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [final / 'mmcv.whl'] * 8
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
    script = 'echo "[1/2] c++ a.o"; echo "[2/2] c++ b.o"; for f; do :; done; echo x > "$f/mmcv.whl"'
    folder = tmp_path / 'cache' / 'key'
    venv = fake_venv(tmp_path, script)
    wheel = mmcv_wheel.build_wheel('mmcv==2.1.0', venv, folder, 'cpu')
    assert wheel == folder / 'mmcv.whl'
    assert wheel.read_text() == 'x\n'
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
    (folder / 'mmcv.whl').touch()
    assert make_env.mmcv_wheel(make_env.STACKS['openmmlab'], tmp_path) == folder / 'mmcv.whl'
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
