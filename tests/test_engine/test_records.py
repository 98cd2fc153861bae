"""Keys, locks and whole files of results."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading

import pytest

from hyper_mm.engine import records
from tests.conftest import REPO


def test_key_is_of_the_values_and_not_of_where_results_go(tmp_path):
    base = dict(model=dict(type='A', sizes=(1, 2)), work_dir='/a')
    key = records.key_of(base)
    assert key == records.key_of(dict(base, work_dir='/b', model=dict(sizes=[1, 2], type='A')))
    for other in (dict(base, seed=1), dict(base, model=dict(type='A', sizes=(2, 1)))):
        assert key != records.key_of(other)
    assert key != records.key_of(base, options=['x']) and 'options' not in key
    assert records.key_of(dict(x=1)) != records.key_of(dict(x=1.5)) != records.key_of(dict(x='1.5'))
    assert all(len(part) == 64 for part in key.values())


def test_versions_are_of_what_is_installed(monkeypatch):
    """OpenMMLab has other names on the other line of its packages."""
    monkeypatch.setattr(records, 'PACKAGES', ('no-such-package', 'torch'))
    assert list(records.package_versions()) == ['torch']


def test_files_count_by_their_content(tmp_path):
    a, b = tmp_path / 'a' / 'x.pth', tmp_path / 'b' / 'x.pth'
    for path, text in ((a, 'one'), (b, 'two')):
        path.parent.mkdir()
        path.write_text(text)
    named = [records.key_of(dict(load_from=str(path))) for path in (a, b)]
    tested = [records.key_of({}, path) for path in (a, b)]
    assert named[0]['config'] != named[1]['config']
    assert tested[0]['checkpoint'] != tested[1]['checkpoint']
    b.write_text('one')
    assert records.key_of(dict(load_from=str(b))) == named[0]
    assert records.key_of({}, b) == tested[0]
    with pytest.raises(FileNotFoundError):
        records.key_of({}, tmp_path / 'none.pth')


def test_key_is_the_same_in_another_process():
    code = (
        'from hyper_mm.engine import records\n'
        "print(records.key_of(dict(a={'x', 'y', 'z'}, b=dict, c=records.key_of)))"
    )
    env = dict(os.environ, PYTHONPATH=str(REPO), PYTHONHASHSEED='7')
    shown = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env)
    expected = records.key_of(dict(a={'x', 'y', 'z'}, b=dict, c=records.key_of))
    assert shown.stdout.strip() == str(expected), shown.stderr


def test_code_is_the_source_of_the_package(tmp_path, monkeypatch):
    package = tmp_path / 'hyper_mm'
    (package / 'engine').mkdir(parents=True)
    module = package / 'layers.py'
    module.write_text('x = 1')
    monkeypatch.setattr(records, '__file__', str(package / 'engine' / 'records.py'))
    found = []
    for text in ('x = 1', 'x = 22', 'x = 1'):
        module.write_text(text)
        records.code_digest.cache_clear()
        found.append(records.code_digest())
    records.code_digest.cache_clear()
    assert found[0] == found[2] != found[1]


def test_names_of_folders_stay_different():
    names = ['a b', 'a/b', 'a-b', 'a_b', 'A-b', 'a.b', '..', '.', 'a  b', 'ä', '']
    folders = [records.safe_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert records.safe_name('hi-mapper') == 'hi-mapper'
    for folder in folders:
        assert folder.strip('.') and not set(folder) & set('/ ,[]{}')


def test_result_of_another_key_is_not_used(tmp_path):
    file, key = tmp_path / 'result.json', dict(config='1', code='2')
    assert records.load_result(file, key) is None
    records.save_result(file, key, dict(mIoU=float('nan'), steps=3))
    found = records.load_result(file, key)
    assert math.isnan(found['mIoU']) and found['steps'] == 3
    assert records.load_result(file, dict(key, code='3')) is None
    for text in ('{"mIoU": 3}', '', '{"key": ', '[]'):
        file.write_text(text)
        assert records.load_result(file, key) is None


def test_write_is_in_one_step(tmp_path, monkeypatch):
    file = tmp_path / 'new' / 'a.json'
    records.write_text(file, 'old')

    def full(descriptor):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', full)
        with pytest.raises(OSError, match='No space'):
            records.write_text(file, 'new')
    assert file.read_text() == 'old' and list(file.parent.iterdir()) == [file]
    link = tmp_path / 'link.json'
    link.symlink_to(file)
    records.write_text(link, 'ä new')
    assert link.is_symlink() and file.read_text(encoding='utf-8') == 'ä new'


def test_claim_keeps_what_is_of_another_key(tmp_path):
    folder, first, second = tmp_path / 'seed0', dict(config='1'), dict(config='2')
    with records.claim(folder, first):
        (folder / 'last_checkpoint').write_text('one')
    with records.claim(folder, first):  # goes on
        assert (folder / 'last_checkpoint').read_text() == 'one'
    said = pytest.warns(UserWarning, match='was of another config: it is kept as')
    with said, records.claim(folder, second):
        assert not (folder / 'last_checkpoint').exists()
        (folder / 'last_checkpoint').write_text('two')
    assert records.folder_key(folder) == second
    (kept,) = tmp_path.glob('old_seed0*')
    assert (kept / 'last_checkpoint').read_text() == 'one'
    for _ in range(2):
        with pytest.warns(UserWarning), records.claim(folder, first):
            pass
        with pytest.warns(UserWarning), records.claim(folder, second):
            pass
    assert len(list(tmp_path.glob('old_seed0*'))) == 5
    (folder / 'key.json').unlink()
    (folder / 'x').touch()
    with pytest.warns(UserWarning, match='of a run without a key'), records.claim(folder, second):
        assert not (folder / 'x').exists()


def test_lock_names_its_holder_and_ends_with_it(tmp_path):
    code = (
        'import sys, time, pathlib\nfrom hyper_mm.engine.records import FolderLock\n'
        'with FolderLock(pathlib.Path(sys.argv[1])):\n'
        "    print('held', flush=True)\n    time.sleep(600)"
    )
    command = [sys.executable, '-c', code, str(tmp_path / 'run')]
    env = dict(os.environ, PYTHONPATH=str(REPO))
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert holder.stdout.readline() == 'held\n'
        said = pytest.raises(RuntimeError, match=f'run is in use by process {holder.pid} on ')
        with said, records.FolderLock(tmp_path / 'run', patience=0.2):
            pass
    finally:
        holder.kill()
        holder.wait()
    with records.FolderLock(tmp_path / 'run'):
        pass


def test_threads_take_turns(tmp_path):
    inside, most = [], []

    def work():
        with records.FolderLock(tmp_path / 'run', patience=0):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20


def test_key_of_a_config_is_json(tmp_path):
    pytest.importorskip('mmengine')
    from mmengine.config import Config

    path = tmp_path / 'a.py'
    path.write_text("work_dir = 'x'\nmodel = dict(type='A', sizes=(1, 2))\n")
    cfg = Config.fromfile(path)
    key = records.key_of(cfg)
    assert json.loads(json.dumps(key)) == key
    cfg.work_dir = 'y'
    assert records.key_of(cfg) == key
    cfg.merge_from_dict({'model.sizes': (1, 3)})
    assert records.key_of(cfg) != key
