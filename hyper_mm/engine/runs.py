"""Runs scripts and functions in processes of their own, which end when the caller does.

The processes are forked from a server that may have loaded libraries before, so that many short
runs do not wait for imports. Each runs in a session of its own and holds one end of a pipe: when
the caller ends, however it ends, the pipe closes and the whole session is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import multiprocessing
import multiprocessing.connection
import os
import runpy
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import reduction
from pathlib import Path
from typing import NamedTuple

TAIL = 5
"""Lines of a log that an error shows."""
PATIENCE = 60.0
"""Seconds that a process may take to end after its function has returned."""
_running: set[multiprocessing.process.BaseProcess] = set()
_starting = threading.Lock()


class Finished(NamedTuple):
    """What a run returned and what it needed.

    Attributes:
        value: What the function returned; None for a script.
        memory: Peak resident memory of its main process, in GiB.
        seconds: Wall time of the function or script.
    """

    value: object
    memory: float
    seconds: float


def stock_script(name: str, scope: str) -> Path:
    """Returns the path of a script that a framework installs.

    Args:
        name: File name, such as ``'train.py'``.
        scope: ``'mmseg'``, ``'mmdet'`` or ``'mmpretrain'``.

    Raises:
        ImportError: If the framework is not installed.
    """
    spec = importlib.util.find_spec(scope)
    if spec is None:
        raise ImportError(f'{scope} is not installed: it has the script {name}')
    return Path(spec.origin).parent / '.mim' / 'tools' / name


def run_script(script: Path, arguments: Sequence, log: Path, **options) -> Finished:
    """Runs a script as ``python script arguments`` does; its output goes to a file.

    Args:
        script: The script.
        arguments: Its arguments, turned into strings.
        log: File of what it prints.
        **options: See :func:`call`.

    Raises:
        RuntimeError: If it fails; with the last lines of its output.
    """
    named = [str(argument) for argument in arguments]
    return call(as_script, str(script), named, log=log, name=Path(script).name, **options)


def call(
    function: Callable,
    *arguments: object,
    log: Path,
    name: str | None = None,
    threads: int | None = None,
    preload: Sequence[str] = (),
    lock: object | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Finished:
    """Calls a function in a process of its own; its output goes to a file.

    The process has the environment and the working directory of the caller. It is killed, with all
    that it started, when the caller is interrupted or ends.

    Args:
        function: A function that pickle finds by its name.
        *arguments: What it is called with.
        log: File of what it prints.
        name: What an error calls it; the name of the function by default.
        threads: Threads of torch and of the numerical libraries; None leaves them as they are.
        preload: Modules that the server loads once. The first call in a process decides.
        lock: A held :class:`hyper_mm.engine.records.FolderLock`. The process holds it, too, so that
            it is free only when both have ended.
        on_line: Called with each line of the output as it comes.

    Returns:
        What it returned, its memory and its time.

    Raises:
        RuntimeError: If it raises, exits with an error or is killed; with the last lines of its
            output.
    """
    context = _context(preload, threads)
    with _starting:
        environment = {**os.environ, **_threads(threads)}
    ours, theirs = context.Pipe()
    place = dict(log=str(log), threads=threads, environment=environment, folder=os.getcwd())
    shared = None if lock is None else _Shared(lock.fileno())
    log.write_text('', encoding='utf-8')
    process = context.Process(target=_work, args=(theirs, shared, place, function, arguments))
    process.start()
    theirs.close()
    _running.add(process)
    try:
        with log.open(encoding='utf-8', errors='replace') as output:
            answer = _answer(ours, process, output, on_line)
    except BaseException:
        _kill(process)
        raise
    finally:
        ours.close()
        _running.discard(process)
    if answer is None or isinstance(answer, str):
        what = f'was killed or died ({process.exitcode})' if answer is None else answer
        tail = '\n'.join(log.read_text(encoding='utf-8', errors='replace').splitlines()[-TAIL:])
        raise RuntimeError(f'{name or function.__name__} failed ({what}), see {log}:\n{tail}')
    return answer


def in_parallel(work: Callable, jobs: Iterable, workers: int) -> list:
    """Calls a function that runs processes for each of many jobs, some at a time.

    Args:
        work: Called in a thread with one job.
        jobs: The jobs.
        workers: How many at a time.

    Returns:
        What it returned, in the order of the jobs.

    Raises:
        Exception: The first that ``work`` raised; running jobs end before, others do not begin.
            After an interrupt (Ctrl-C) the running processes are killed.
    """
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            return [future.result() for future in futures]
        except BaseException as error:
            for future in futures:
                future.cancel()
            if not isinstance(error, Exception):
                for process in list(_running):
                    _kill_session(process.pid)
            raise


def _context(preload: Sequence[str], threads: int | None) -> multiprocessing.context.BaseContext:
    if 'forkserver' not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context('spawn')
    from multiprocessing import forkserver

    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([__name__, *preload])  # and thus torch, which all need
    # what the server reads when it starts: modules of the same places, and how many threads
    given = dict(_threads(threads), PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    with _starting:
        before = dict(os.environ)
        os.environ.update(given)
        try:
            forkserver.ensure_running()
        finally:
            for name in given:
                del os.environ[name]
            os.environ.update({name: before[name] for name in given if name in before})
    return context


def _threads(count: int | None) -> dict[str, str]:
    names = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS')
    return {} if count is None else dict.fromkeys(names, str(count))


def _answer(ours, process, output, on_line) -> Finished | str | None:
    """Waits for the end of a process: what it answered, or None if it died without a word."""
    answer, pending, ended = None, '', False
    while not ended:
        waiting = [ours, process.sentinel]
        ended = bool(multiprocessing.connection.wait(waiting, 0.2 if on_line else None))
        if on_line:
            *lines, pending = (pending + output.read()).split('\n')
            for line in [*lines, pending] if ended and pending else lines:
                on_line(line)
    with contextlib.suppress(EOFError, ConnectionError):
        if ours.poll():
            answer = ours.recv()
    process.join(PATIENCE)
    _kill(process)
    return answer


def _kill(process: multiprocessing.process.BaseProcess) -> None:
    """Kills what is left of a process and of its session."""
    _kill_session(process.pid)
    if process.is_alive():
        process.kill()
    process.join()


def _kill_session(leader: int) -> None:
    if hasattr(os, 'killpg'):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


class _Shared:
    """A file descriptor that the process gets a duplicate of."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def __reduce__(self):
        return _Shared.received, (reduction.DupFd(self.descriptor),)

    @staticmethod
    def received(duplicate) -> _Shared:
        return _Shared(duplicate.detach())


def _work(channel, shared: _Shared | None, place: dict, function: Callable, arguments: tuple):
    end_with(channel)
    os.environ.clear()
    os.environ.update(place['environment'])
    os.chdir(place['folder'])
    with open(place['log'], 'a', encoding='utf-8') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, encoding='utf-8')
    if place['threads'] is not None and 'torch' in sys.modules:  # it read another environment
        sys.modules['torch'].set_num_threads(place['threads'])
    start = time.monotonic()
    try:
        value = function(*arguments)
        answer = Finished(value, _peak_memory(), time.monotonic() - start)
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        done = error.code in (None, 0)
        answer = Finished(None, _peak_memory(), time.monotonic() - start) if done else None
        answer = answer or f'exit code {error.code if isinstance(error.code, int) else 1}'
    except BaseException as error:
        traceback.print_exc()
        answer = type(error).__name__
    sys.stdout.flush()
    sys.stderr.flush()
    channel.send(answer)


def end_with(channel: multiprocessing.connection.Connection) -> None:
    """Makes this process lead a session, which is killed when the other end of a pipe closes.

    On Linux the kernel kills the process also when the server that forked it ends.

    Args:
        channel: This process' end; whoever holds the other end does not write to it.
    """
    if hasattr(os, 'setsid'):
        with contextlib.suppress(PermissionError):  # leads one already
            os.setsid()
    if sys.platform == 'linux':
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            channel.recv()
        if hasattr(os, 'killpg'):
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _peak_memory() -> float:
    try:
        import resource
    except ImportError:  # not on Windows
        return float('nan')
    unit = 2**30 if sys.platform == 'darwin' else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def as_script(path: str, arguments: list[str]) -> None:
    """Runs a script in this process as ``python path arguments`` does.

    Args:
        path: The script; its folder comes first where modules are looked for.
        arguments: Its arguments.
    """
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(Path(path).resolve().parent))
    runpy.run_path(path, run_name='__main__')
