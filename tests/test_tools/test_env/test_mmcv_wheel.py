"""Tests of the cache of compiled wheels of mmcv."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import os
import re
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


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
    mmcv_wheel, monkeypatch, tmp_path, capsys
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
    assert 'make ops-demo' in ''.join(capsys.readouterr())  # what to do while it is compiled


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
