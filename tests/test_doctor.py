"""Tests of the self-check: what it calls ok, missing or broken, and how it mends it."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

from hyper_mm import doctor
from hyper_mm.doctor import BROKEN, MISSING, OK, WARN, Row

COMPLETE = [Row(name, OK, '1.0') for name in (*doctor.CORE, *doctor.LIBRARIES, 'open_clip')]


def changed(**states: str) -> list[Row]:
    names = {name.replace('_ops', '.ops'): state for name, state in states.items()}
    return [Row(r.name, names.get(r.name, r.state), r.detail) for r in COMPLETE]


@pytest.fixture
def plain_install(monkeypatch):
    """As where hyper_mm lives in somebody else's environment."""
    monkeypatch.setattr(doctor, 'in_checkout', lambda: False)


@pytest.mark.parametrize(
    ('module', 'error', 'state', 'detail', 'remedy'),
    [
        (
            'mmdet',
            ModuleNotFoundError("No module named 'mmdet'", name='mmdet'),
            MISSING,
            'not installed',
            'pip install mmdet',
        ),
        (
            'mmseg',
            ModuleNotFoundError("No module named 'mmseg'", name='mmseg'),
            MISSING,
            'not installed',
            'pip install mmsegmentation',
        ),
        (
            'mmseg',
            ModuleNotFoundError("No module named 'ftfy'", name='ftfy'),
            BROKEN,
            'needs ftfy, which is not installed',
            'pip install ftfy',
        ),
        (
            'mmcv.ops',
            ModuleNotFoundError("No module named 'mmcv._ext'", name='mmcv._ext'),
            BROKEN,
            'without its operators',
            doctor.MMCV,
        ),
        (
            'mmcv.ops',
            ImportError('/x/mmcv/_ext.so: undefined symbol: _ZN3c104cuda9SetDeviceEi'),
            BROKEN,
            'compiled for another torch',
            doctor.MMCV,
        ),
        (
            'mmseg',
            AssertionError('MMCV==2.2.0 is used but incompatible. Please install mmcv>=2.0.0rc4.'),
            BROKEN,
            'does not accept mmcv 2.2.0',
            doctor.MMCV,
        ),
        (
            'mmcv',
            ModuleNotFoundError("No module named 'pkg_resources'", name='pkg_resources'),
            BROKEN,
            'setuptools 82',
            "pip install 'setuptools<81'",
        ),
        (
            'torchvision',
            RuntimeError('operator torchvision::nms does not exist'),
            BROKEN,
            'built for another torch',
            'pip install torchvision',
        ),
        (
            'mmcv',
            ImportError('libGL.so.1: cannot open shared object file: No such file or directory'),
            BROKEN,
            'graphics library',
            'opencv-python-headless',
        ),
        ('mmpretrain', ValueError('odd\nthing'), BROKEN, 'ValueError: odd thing', 'mmpretrain'),
    ],
)
def test_explains_errors(plain_install, module, error, state, detail, remedy):
    row = doctor.explain(module, error)
    assert (row.name, row.state) == (module, state)
    assert detail in row.detail
    assert remedy in row.remedy
    assert '\n' not in row.detail + row.remedy


def test_remedy_in_a_checkout_is_make(monkeypatch):
    monkeypatch.setattr(doctor, 'in_checkout', lambda: True)
    monkeypatch.setattr(sys, 'prefix', '/home/me/hyper_mm/.venv')
    missing = ModuleNotFoundError("No module named 'mmdet'", name='mmdet')
    assert doctor.explain('mmdet', missing).remedy == 'make env FORCE=1'
    monkeypatch.setattr(sys, 'prefix', '/home/me/hyper_mm/.venv-onedl')
    assert doctor.remedy_for('mmcv') == 'make env FORCE=1 STACK=onedl'


def test_missing_module(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmdet', None)
    assert doctor.check_module('mmdet').state == MISSING


def test_any_error_of_an_import_is_one_line(monkeypatch, tmp_path):
    (tmp_path / 'hyper_mm_broken_probe.py').write_text('raise RuntimeError("first\\nsecond")')
    monkeypatch.syspath_prepend(tmp_path)
    row = doctor.check_module('hyper_mm_broken_probe')
    assert row.state == BROKEN
    assert 'RuntimeError: first second' in row.detail


def test_installed_without_import():
    assert doctor.check_installed('pytest').state == OK
    assert doctor.check_installed('no_such_package_of_any_kind').state == MISSING


@pytest.mark.parametrize(
    ('call', 'state'), [('np.float)', WARN), ('float)', OK)], ids=['of PyPI', 'of git']
)
def test_lvis_that_stops_with_this_numpy(monkeypatch, tmp_path, call, state):
    assert not hasattr(pytest.importorskip('numpy', '1.24'), 'float')
    (tmp_path / 'lvis').mkdir()
    (tmp_path / 'lvis' / '__init__.py').touch()
    (tmp_path / 'lvis' / 'eval.py').write_text(f'np.cumsum(tps).astype(dtype={call}\n')
    (tmp_path / 'lvis-0.5.3.dist-info').mkdir()
    (tmp_path / 'lvis-0.5.3.dist-info' / 'METADATA').write_text('Name: lvis\nVersion: 0.5.3\n')
    monkeypatch.syspath_prepend(tmp_path)
    (row,) = doctor.check_lvis()
    assert (row.state, row.detail.split()[0]) == (state, '0.5.3')
    assert bool(row.remedy) == (state == WARN)


def test_lvis_is_not_asked_for(monkeypatch):
    monkeypatch.setattr(doctor, 'check_installed', lambda name: Row(name, MISSING, ''))
    assert doctor.check_lvis() == []


@pytest.mark.parametrize(
    ('kept', 'state'), [([0, 2], OK), ([0, 1, 2], BROKEN)], ids=['right', 'wrong']
)
def test_ops_are_run(monkeypatch, kept, state):
    torch = pytest.importorskip('torch')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    fake = types.ModuleType('mmcv.ops')
    fake.nms = lambda boxes, scores, iou_threshold: (boxes, torch.tensor(kept))
    monkeypatch.setitem(sys.modules, 'mmcv', types.ModuleType('mmcv'))
    monkeypatch.setitem(sys.modules, 'mmcv.ops', fake)
    assert doctor.check_ops().state == state


@pytest.mark.parametrize(
    ('rows', 'usable', 'strictly'),
    [
        (COMPLETE, True, True),
        (changed(mmcv_ops=WARN), True, True),
        (changed(mmdet=MISSING, mmpretrain=MISSING, open_clip=MISSING), True, False),
        (changed(mmseg=MISSING, mmdet=MISSING, mmpretrain=MISSING), False, False),
        (changed(mmcv_ops=BROKEN), False, False),
        (changed(torch=MISSING), False, False),
        (changed(mmdet=BROKEN), False, False),
    ],
)
def test_usable(rows, usable, strictly):
    assert doctor.is_usable(rows) is usable
    assert doctor.is_usable(rows, strict=True) is strictly


@pytest.mark.parametrize('missing', [False, True])
def test_main(monkeypatch, capsys, missing):
    ill = Row('mmseg', MISSING, 'not installed', 'pip install mmsegmentation')
    rows = [r for r in COMPLETE if r.name != 'mmseg'] + [ill] if missing else COMPLETE
    monkeypatch.setattr(doctor, 'diagnose', lambda: rows)
    assert doctor.main(['--strict']) == int(missing)
    lines = capsys.readouterr().out.splitlines()
    table = lines[: len(rows)]
    assert [line.split()[0] for line in table] == [row.name for row in rows]
    assert len({line.index(f' {row.state}') for line, row in zip(table, rows)}) == 1, 'not aligned'
    assert any('pip install mmsegmentation' in line for line in lines) is missing
    assert lines[-1] == f'hyper_mm is {"NOT ready" if missing else "ready"}.'


def test_runs_where_nothing_is_installed():
    root = Path(doctor.__file__).resolve().parents[1]
    code = f'import sys; sys.path.insert(0, {str(root)!r})\nfrom hyper_mm import doctor\n'
    code += 'sys.exit(doctor.main([]))'
    # -S: without site-packages, -I: without the user's and PYTHONPATH's
    command = [sys.executable, '-S', '-I', '-c', code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    table = done.stdout.split('\n\n')[0].splitlines()
    rows = {line.split()[0]: line.split()[1] for line in table}
    assert 'Traceback' not in done.stdout + done.stderr
    for name in ('torch', 'mmengine', 'mmcv', 'mmcv.ops', 'mmseg', 'mmdet', 'mmpretrain'):
        assert rows[name] in (MISSING, BROKEN)
