"""Full and read-only disks, two runs in one folder, and processes of which one dies."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip('mmseg')

from mmengine.config import Config  # noqa: E402
from mmengine.runner.checkpoint import find_latest_checkpoint  # noqa: E402

from hyper_mm.engine import launch, records  # noqa: E402
from tests.helpers import runs  # noqa: E402
from tests.helpers.hard_life import end_of, fork  # noqa: E402
from tests.helpers.runs import TRAIN  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402

NEW_MOUNTS, NEW_USER, READ_ONLY, REMOUNT, PRIVATE = 0x20000, 0x10000000, 1, 32, 0x44000


def mount(folder: Path, size: str) -> object:
    """Mounts a disk of that size for this process alone.

    Returns:
        A function that makes it read-only.

    Raises:
        OSError: If the system does not permit it.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def call(function, *args) -> None:
        if function(*args):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    call(libc.unshare, NEW_MOUNTS | (NEW_USER if os.getuid() else 0))
    call(libc.mount, b'none', b'/', None, ctypes.c_ulong(PRIVATE), None)
    place, options = str(folder).encode(), f'size={size}'.encode()
    call(libc.mount, b'tmpfs', place, b'tmpfs', ctypes.c_ulong(0), options)
    again = ctypes.c_ulong(READ_ONLY | REMOUNT)
    return lambda: call(libc.mount, b'tmpfs', place, b'tmpfs', again, options)


def on_a_disk(folder: Path, size: str, work) -> None:
    """Runs ``work(read_only)`` in a process with a disk of its own, and expects no exception."""
    folder.mkdir()

    def inside() -> None:
        try:
            read_only = mount(folder, size)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS):
                os._exit(77)
            raise
        work(read_only)

    code = end_of(fork(inside))
    if code == 77:
        pytest.skip('this system does not let a test mount a disk')
    assert code == 0


def test_a_full_disk_leaves_what_was_there(tmp_path):
    disk = tmp_path / 'disk'

    def work(_) -> None:
        records.write_bytes(disk / 'a.pth', b'old' * 1000)
        with pytest.raises(OSError, match='No space left') as error:
            records.write_bytes(disk / 'a.pth', bytes(2**20))
        assert 'a.pth' in str(error.value)
        assert (disk / 'a.pth').read_bytes() == b'old' * 1000
        assert os.listdir(disk) == ['a.pth']
        records.write_bytes(disk / 'a.pth', b'new' * 1000)  # the space of the part is free again
        assert (disk / 'a.pth').read_bytes() == b'new' * 1000

    on_a_disk(disk, '64k', work)


def test_a_read_only_disk_leaves_what_was_there(tmp_path):
    disk = tmp_path / 'disk'

    def work(make_read_only) -> None:
        records.write_bytes(disk / 'a.pth', b'old')
        make_read_only()
        with pytest.raises(OSError, match='Read-only file system'):
            records.write_bytes(disk / 'a.pth', b'new')
        assert (disk / 'a.pth').read_bytes() == b'old'

    on_a_disk(disk, '64k', work)


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    return runs.make_data(tmp_path_factory.mktemp('data'))


def train(config: Path, folder: Path, **changes) -> None:
    """What tools/train.py does, in this process."""
    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.launcher, cfg.resume = str(folder), 'none', True
    cfg.merge_from_dict(changes)
    launch.build_runner(cfg).train()


@pytest.mark.slow
def test_training_on_a_full_disk_goes_on_when_there_is_space(root, tmp_path):
    config, disk = runs.write_config(tmp_path / 'config', root), tmp_path / 'disk'

    def work(_) -> None:
        train(config, disk, **{'train_cfg.max_iters': 2})
        space = os.statvfs(disk)
        filler = disk / 'filler'
        filler.write_bytes(bytes(space.f_bavail * space.f_frsize - 100_000))
        with pytest.raises(OSError, match='No space left'):
            train(config, disk)
        assert Path(find_latest_checkpoint(str(disk))).name == 'iter_2.pth'
        filler.unlink()
        train(config, disk)
        assert Path(find_latest_checkpoint(str(disk))).name == 'iter_6.pth'

    on_a_disk(disk, '64m', work)


def test_writers_of_one_file_take_turns(tmp_path):
    """Processes and threads write one file: it is whole at any time, and no part stays behind."""
    file, size = tmp_path / 'a.pth', 2**20
    contents = {bytes([k]) * size for k in range(4)}
    records.write_bytes(file, bytes(size))

    def write(k: int) -> None:
        threads = [
            threading.Thread(target=records.write_bytes, args=(file, bytes([k]) * size))
            for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    pids = [fork(lambda k=k: write(k)) for k in range(4)]
    for _ in range(20):
        assert file.read_bytes() in contents
        time.sleep(0.002)
    assert [end_of(pid) for pid in pids] == [0] * 4
    assert file.read_bytes() in contents
    assert os.listdir(tmp_path) == ['a.pth']


def test_a_second_run_in_the_folder_is_refused(tmp_path, root, monkeypatch, capsys):
    """And one in a folder whose run has ended is not."""
    config, folder = runs.write_config(tmp_path / 'config', root), tmp_path / 'run'
    tool = load_tool('train.py')
    monkeypatch.setattr('sys.argv', ['train.py', str(config), '--work-dir', str(folder)])
    built = []
    monkeypatch.setattr(launch, 'build_runner', lambda cfg: built.append(cfg) or Training())
    monkeypatch.setattr(records, 'FolderLock', Impatient)

    def hold() -> None:
        with Impatient(folder / 'train'):
            (tmp_path / 'held').touch()
            time.sleep(600)

    holder = fork(hold)
    while not (tmp_path / 'held').exists():
        time.sleep(0.01)
    with pytest.raises(SystemExit):
        tool.main()
    assert not built and f'is in use by process {holder} on ' in capsys.readouterr().err
    os.kill(holder, signal.SIGKILL)
    assert end_of(holder) == -signal.SIGKILL
    tool.main()
    assert len(built) == 1


class Impatient(records.FolderLock):
    """Does not wait for the other process."""

    def __init__(self, folder: Path, patience: float = 0):
        super().__init__(folder, 0)


class Training:
    """A run that ends at once."""

    def train(self) -> None:
        pass


def test_only_the_first_process_locks(monkeypatch):
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('SLURM_PROCID', '0')
    monkeypatch.setenv('OMPI_COMM_WORLD_RANK', '2')
    found = {name: launch.is_first_process(name) for name in ('none', 'pytorch', 'slurm', 'mpi')}
    assert found == dict(none=True, pytorch=False, slurm=True, mpi=False)


@pytest.mark.slow
def test_the_others_end_when_a_process_dies(root, tmp_path):
    """Two processes, one of which is killed: the other ends with an error, and does not wait."""
    kill = dict(default_hooks=dict(kill=dict(type='KillHook', step=3, rank=1)))
    config = runs.write_config(tmp_path / 'config', root, **kill)
    env = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(runs.free_port()), WORLD_SIZE='2')
    args = (config, '--work-dir', tmp_path / 'run', '--seed', 0, '--launcher', 'pytorch')
    processes = [
        runs.Run(
            TRAIN,
            *args,
            log=tmp_path / f'{rank}.log',
            env=dict(env, RANK=str(rank), LOCAL_RANK=str(rank)),
        )
        for rank in range(2)
    ]
    (first, text), (second, _) = (process.wait() for process in processes)
    assert second == -signal.SIGKILL
    assert first not in (0, None), text[-2000:]
    assert (tmp_path / 'run' / 'iter_2.pth').is_file()
