"""Tests of the package definition."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MIM = ('configs/folder/probe.py', 'tools/probe.py', 'model-index.yml')


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


def test_description_has_no_link_to_a_file(monkeypatch):
    text = definition(monkeypatch)['long_description']
    assert 'Hi-Mapper' in text and 'files of `docs/`' in text
    assert '![' not in text
    prose = re.sub(r'```.*?```|`[^`]*`', '', text, flags=re.DOTALL)
    links = re.findall(r'\]\(([^)]*)\)|\]\[|^\[[^]]*\]:', prose, re.MULTILINE)
    assert all(target.startswith('http') for target in links), links


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
@pytest.mark.parametrize('editable', [True, False])
def test_mim_finds_every_config(editable, source, tmp_path):
    pytest.importorskip('mim')
    folder, site = tmp_path / 'source', tmp_path / 'site'
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns('.mim'))
    for name in ('configs', 'tools'):
        shutil.rmtree(folder / name)
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / 'model-index.yml', folder)
    build = f'build_{"editable" if editable else "wheel"}'
    python('-c', f"from setuptools import build_meta; build_meta.{build}('out')", cwd=folder)
    with zipfile.ZipFile(next((folder / 'out').glob('*.whl'))) as wheel:
        wheel.extractall(site)
    env = dict(os.environ, PYTHONPATH=str(site))
    text = python('-m', 'mim', 'search', 'hyper_mm', cwd=tmp_path, env=env)
    found = re.findall(r'^config id: (\S+)', text, re.MULTILINE)
    there = [p for p in (ROOT / 'configs').rglob('*.py') if '_base_' not in p.parts]
    assert sorted(found) == sorted({p.stem for p in there})
    name = 'deit-t_camvid'
    one = python('-m', 'mim', 'search', 'hyper_mm', '--config', name, cwd=tmp_path, env=env)
    assert f'configs/himapper/{name}.py' in one and '22.50' in one
    options = ('--checkpoint', 'none', '--gpus', '0')
    for what in ('train', 'test'):
        given = options[2 * (what == 'train') :]
        args = ('-m', 'mim', what, 'hyper_mm', f'{name}.py', *given, '--', '--help')
        shown = python(*args, cwd=tmp_path, env=env)
        root = folder if editable else site / 'hyper_mm' / '.mim'
        assert f'will use {root}/configs/himapper/{name}.py instead' in shown
        assert f'usage: {what}.py' in shown and '--work-dir' in shown


def test_editable_install_links_to_the_checkout(source):
    code = "from setuptools import build_meta; build_meta.build_editable('editable')"
    python('-c', code, cwd=source)
    with zipfile.ZipFile(next((source / 'editable').glob('*.whl'))) as wheel:
        texts = {Path(name).name: wheel.read(name).decode() for name in wheel.namelist()}
    paths = [text for name, text in texts.items() if name.endswith('.pth')]
    assert [Path(path.strip()) for path in paths] == [source]
    assert texts['top_level.txt'].splitlines() == [str(source / 'hyper_mm'), 'hyper_mm']
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


def test_make_help_lists_the_targets():
    if shutil.which('make') is None:
        pytest.skip('make is not installed')
    shown = subprocess.run(['make', 'help'], cwd=ROOT, capture_output=True, text=True).stdout
    for name in ('env', 'demo', 'test', 'test-slow', 'lint', 'format', 'bench', 'doctor', 'clean'):
        assert re.search(rf'^make {name} ', shown, re.MULTILINE)
