"""Results of runs on disk: locked while they are made, written whole, and keyed by what made them.

A result is used again only where its key is the same: the resolved config (with the contents of the
files that it names), the checkpoint, and the code.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import shlex
import socket
import sys
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

PACKAGES = (
    'torch', 'torchvision', 'numpy', 'mmengine', 'mmcv', 'mmsegmentation', 'mmdet', 'mmpretrain',
    'onedl-mmengine', 'onedl-mmcv', 'onedl-mmsegmentation', 'onedl-mmdetection',
    'onedl-mmpretrain', 'open_clip_torch', 'timm',
)  # fmt: skip
"""Distributions whose versions belong to the code of a run."""
PLACES = ('work_dir',)
"""Entries of a config that say where a run writes, and nothing about what it computes."""
KEY_FILE = 'key.json'


def write_text(file: Path, text: str) -> None:
    """Writes a file in one step: whoever reads it finds the old text or the new one.

    Args:
        file: The file; its folder is made if it is missing.
        text: Its text.
    """
    write_bytes(file, text.encode())


def write_bytes(file: Path | str, data: bytes | memoryview) -> None:
    """Writes a file in one step, also where the machine stops in between.

    Several processes may write the same file: each writes all of it, and the last one stays.

    Args:
        file: The file; its folder is made if it is missing.
        data: Its content.
    """
    file = Path(os.path.realpath(file))  # through a link, not in place of it
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f'.{file.name[:200]}.part')
    try:
        with _alone(part) as stream:
            try:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
                part.replace(file)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        error.filename = error.filename or str(file)  # a full disk: which one
        raise
    if hasattr(os, 'O_DIRECTORY'):  # the new name, too
        with contextlib.suppress(OSError):
            folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[BinaryIO]:
    """An empty file that no other process writes to; one that a killed process left serves."""
    while True:
        with part.open('ab') as stream:
            _lock(stream, fcntl.LOCK_EX if fcntl else 0)
            try:
                same = os.path.samestat(os.fstat(stream.fileno()), os.stat(part))
            except FileNotFoundError:
                same = False
            if same:  # else another process was first, and has given it its name
                stream.truncate(0)
                yield stream
                return


def _lock(stream: IO, how: int) -> None:
    """Locks a file where the system can."""
    try:
        if fcntl is not None:
            fcntl.flock(stream, how)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise


def key_of(config: object, checkpoint: Path | str | None = None, **more: object) -> dict[str, str]:
    """Returns the key of a run: one digest for each part of what produces its result.

    Args:
        config: The resolved config: a ``mmengine.Config`` or a dict. Where a run writes
            (``work_dir``) does not count; a file that it names counts by its content.
        checkpoint: Checkpoint that is read, of any path: its content counts.
        **more: Whatever else the result depends on, of plain types.

    Returns:
        Digests, by ``'config'``, ``'checkpoint'``, ``'code'`` and the names of ``more``.
    """
    plain = config.to_dict() if hasattr(config, 'to_dict') else dict(config)
    key = dict(config=_digest({k: v for k, v in plain.items() if k not in PLACES}))
    if checkpoint is not None:
        key['checkpoint'] = file_digest(checkpoint)
    key['code'] = code_digest()
    return {**key, **{name: _digest(value) for name, value in more.items()}}


def name_of(key: dict[str, str]) -> str:
    """Returns a short name of a key, for a file or folder."""
    return _digest(key)[:10]


def safe_name(name: str) -> str:
    """Returns a name in letters for a folder; different names stay different.

    Args:
        name: Any text. Letters, digits and ``. + = _ -`` stay; where there is something else, a
            digest is added.
    """
    plain = re.sub(r'[^0-9A-Za-z.+=_-]+', '-', name)
    return plain if plain == name and name.strip('.') else f'{plain}.{_digest(name)[:6]}'


def _digest(value: object) -> str:
    text = json.dumps(_plain(value), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    """A value of a config as json has it; equal for equal values, whatever the process."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(part) for part in value), key=repr)
    if isinstance(value, (str, os.PathLike)):
        text = os.fspath(value)
        return f'file {file_digest(text)}' if os.path.isfile(text) else text
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, type) or hasattr(value, '__qualname__'):
        return f'{value.__module__}.{value.__qualname__}'
    return repr(value)


def file_digest(path: Path | str) -> str:
    """Returns the SHA-256 of the content of a file.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If there is none.
    """
    state = os.stat(path)
    return _file_digest(os.path.realpath(path), state.st_size, state.st_mtime_ns, state.st_ino)


@functools.lru_cache(maxsize=1024)
def _file_digest(path: str, *_state: int) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@functools.lru_cache(maxsize=1)
def code_digest() -> str:
    """Returns the digest of the package's source and of the versions of what it rests on."""
    package = Path(__file__).resolve().parents[1]
    sources = sorted(path for path in package.rglob('*.py') if '.mim' not in path.parts)
    parts = {str(path.relative_to(package)): file_digest(path) for path in sources}
    return _digest(list({**parts, **package_versions()}.items()))


def package_versions() -> dict[str, str]:
    """Returns the versions of the distributions of ``PACKAGES`` that are installed."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def save_result(file: Path, key: dict[str, str], result: dict) -> None:
    """Writes a result with its key.

    Args:
        file: The json file; not-a-number is kept.
        key: See :func:`key_of`.
        result: The result, of plain types.
    """
    write_text(file, json.dumps(dict(key=key, result=result), indent=1))


def load_result(file: Path, key: dict[str, str]) -> dict | None:
    """Reads a result, if it is of this key.

    Args:
        file: What :func:`save_result` wrote.
        key: See :func:`key_of`.

    Returns:
        The result; None where there is none, or one of another key, or a file without a key.
    """
    kept = _read_json(file)
    return kept['result'] if kept.get('key') == key and 'result' in kept else None


def folder_key(folder: Path) -> dict[str, str]:
    """Returns the key that :func:`claim` wrote into a folder; empty where there is none."""
    return _read_json(folder / KEY_FILE)


def _read_json(file: Path) -> dict:
    try:
        kept = json.loads(file.read_text(encoding='utf-8'))
    except (FileNotFoundError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


class FolderLock:
    """Lock of a run folder, a context manager: one process at a time, threads of it in turn.

    It is a lock of the operating system on a file beside the folder, so it is free as soon as the
    last process that holds it ends, and names who holds it. Where there is no ``fcntl`` (Windows),
    or the file system has no locks, only threads of one process exclude each other.

    Args:
        folder: The folder; it need not exist.
        patience: Seconds to wait for another process, such as one that is just ending.

    Raises:
        RuntimeError: On entry, if another process holds the lock; the message names it.
    """

    _threads: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def __init__(self, folder: Path, patience: float = 5.0):
        self.folder, self.patience = folder, patience
        self.file = folder.parent / f'.{folder.name}.lock'
        self._stream = None

    def fileno(self) -> int:
        """Returns the descriptor of the lock, which a child process may hold, too."""
        return self._stream.fileno()

    def __enter__(self) -> FolderLock:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._turn = FolderLock._threads[os.path.realpath(self.file)]
        self._turn.acquire()
        try:
            self._stream = self.file.open('a+', encoding='utf-8')
            self._acquire(time.monotonic() + self.patience)
            self._stream.truncate(0)
            command = shlex.join(sys.argv)[:500]
            self._stream.write(f'process {os.getpid()} on {socket.gethostname()}: {command}')
            self._stream.flush()
        except BaseException:
            if self._stream is not None:
                self._stream.close()
            self._turn.release()
            raise
        return self

    def _acquire(self, end: float) -> None:
        while True:
            try:
                _lock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB if fcntl else 0)
                return
            except BlockingIOError:
                if time.monotonic() > end:
                    self._stream.seek(0)
                    holder = self._stream.read() or 'another process'
                    raise RuntimeError(
                        f'{self.folder} is in use by {holder}. Wait for it, or end it first'
                    ) from None
                time.sleep(0.1)

    def __exit__(self, *_error: object) -> None:
        self._stream.close()
        self._turn.release()


@contextlib.contextmanager
def claim(folder: Path, key: dict[str, str]) -> Iterator[FolderLock]:
    """Locks the folder of a run and makes sure that what is in it is of that run.

    A folder with files of another key, or of none, is kept under another name with a warning.

    Args:
        folder: The folder; it is made.
        key: See :func:`key_of`.

    Yields:
        The held lock.

    Raises:
        RuntimeError: If another process is at work in the folder.
    """
    with FolderLock(folder) as lock:
        old = folder_key(folder)
        if old != key and folder.is_dir() and any(folder.iterdir()):
            aside = _free_name(folder, old)
            folder.rename(aside)
            named = ', '.join(sorted(k for k in {*old, *key} if old.get(k) != key.get(k)))
            what = f'another {named}' if old else 'a run without a key'
            warnings.warn(f'{folder} was of {what}: it is kept as {aside}', stacklevel=3)
        if folder_key(folder) != key:
            write_text(folder / KEY_FILE, json.dumps(key, indent=1))
        yield lock


def _free_name(folder: Path, key: dict) -> Path:
    name = f'old_{folder.name}_{name_of(key) if key else "without-key"}'
    for number in range(1, 10_000):
        found = folder.with_name(name if number == 1 else f'{name}_{number}')
        if not found.exists():
            return found
    raise FileExistsError(f'too many folders {folder.with_name(name)}_*: delete some')
