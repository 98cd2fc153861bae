"""Compiles mmcv with its operators and keeps the wheel in the user's cache.

mmcv has no wheel for the tested torch, and a wheel that was built against another torch does not
load (undefined symbols). So the cache's key names all that the binary depends on, and a wheel
appears in the cache complete or not at all. Used by `make_env.py`; standard library only.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO


class EnvError(Exception):
    """A failure with a message for the user."""


@dataclass(frozen=True)
class Target:
    """What a compiled wheel depends on, as found in a virtual environment.

    Attributes:
        torch: Full version of torch, with its local part, e.g. `2.11.0+cu130`.
        python: Tag of the interpreter, e.g. `cp311`.
        platform: Platform tag, e.g. `linux_x86_64`.
        cuda: CUDA version of torch's build, or None.
        hip: ROCm version of torch's build, or None.
        gpus: Compute capabilities of the visible GPUs, e.g. `('9.0',)`.
        toolkit: Version of the installed CUDA compiler, or None.
    """

    torch: str
    python: str
    platform: str
    cuda: str | None = None
    hip: str | None = None
    gpus: tuple[str, ...] = ()
    toolkit: str | None = None


PROBE = """
import json, re, subprocess, sys, sysconfig, torch
from torch.utils.cpp_extension import CUDA_HOME
toolkit = None
if CUDA_HOME:
    try:
        text = subprocess.check_output([CUDA_HOME + '/bin/nvcc', '--version'], text=True)
        toolkit = re.search(r'release (\\d+\\.\\d+)', text)[1]
    except (OSError, TypeError, subprocess.CalledProcessError):
        pass
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
print(json.dumps({
    'torch': torch.__version__,
    'python': 'cp%d%d' % sys.version_info[:2],
    'platform': sysconfig.get_platform().replace('-', '_').replace('.', '_'),
    'cuda': torch.version.cuda,
    'hip': torch.version.hip,
    'gpus': sorted({'%d.%d' % torch.cuda.get_device_capability(i) for i in range(count)}),
    'toolkit': toolkit,
}))
"""


def say(text: str) -> None:
    """Prints one line of the installer's own."""
    print(f'==> {text}', flush=True)


def cache_root(env: dict[str, str] | os._Environ = os.environ) -> Path:
    """Returns the folder of built wheels in the user's cache."""
    base = env.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'hyper_mm' / 'wheels'


def probe(venv: Path) -> Target:
    """Reads from an environment with torch what a compiled wheel depends on."""
    output = subprocess.run(
        [str(venv / 'bin' / 'python'), '-W', 'ignore', '-c', PROBE],
        capture_output=True,
        text=True,
        check=False,
    )
    if output.returncode != 0:
        raise EnvError(f'torch does not work in {venv}:\n{output.stderr}')
    found = json.loads(output.stdout.splitlines()[-1])
    return Target(**{**found, 'gpus': tuple(found['gpus'])})


def ops_device(target: Target, env: dict[str, str] | os._Environ = os.environ) -> str:
    """Tells what mmcv's operators are compiled for: `cpu`, `cu130-sm90`, `rocm6.2`.

    They are compiled for a GPU if one is visible and a compiler of torch's CUDA version is there,
    or if the user asks with `FORCE_CUDA=1`.

    Raises:
        EnvError: If `FORCE_CUDA=1` is set and there is no CUDA compiler.
    """
    forced = env.get('FORCE_CUDA') == '1'
    if not (target.gpus or forced):
        return 'cpu'
    if target.hip:
        return f'rocm{target.hip}'
    if not target.toolkit or target.toolkit.split('.')[0] != (target.cuda or '').split('.')[0]:
        if forced:
            raise EnvError(
                f'FORCE_CUDA=1 needs the compiler of CUDA {target.cuda}, '
                f'found {target.toolkit or "none"}; set CUDA_HOME to its folder'
            )
        return 'cpu'
    archs = env.get('TORCH_CUDA_ARCH_LIST') or ' '.join(target.gpus)
    sm = '-'.join(f'sm{arch}' for arch in re.findall(r'[\d.]+\w*(?:\+PTX)?', archs))
    return f'cu{target.cuda}-{sm}'.replace('.', '').rstrip('-')


def wheel_key(mmcv: str, version: str, target: Target, device: str) -> str:
    """Names the cache folder of a wheel by all that its binary depends on."""
    key = f'{mmcv}-{version}-torch{target.torch}-{target.python}-{target.platform}-{device}'
    return re.sub(r'[^\w.+-]', '_', key)


def cached_wheel(folder: Path, requirement: str) -> Path | None:
    """Returns the wheel of a cache folder that is of a requirement and whole, or None.

    Args:
        folder: The folder.
        requirement: What the wheel is of, e.g. `mmcv==2.1.0`.
    """
    name, version = requirement.split('==')
    start = f'{re.sub(r"[-_.]+", "_", name).lower()}-{version}'
    pattern = re.compile(rf'{re.escape(start)}(?:[+_][\w.]+)?(?:-\d\w*)?-[\w.]+-[\w.]+-[\w.]+\.whl')
    for wheel in sorted(folder.glob('*.whl')):
        if pattern.fullmatch(wheel.name) and is_whole(wheel):
            return wheel
    return None


def is_whole(wheel: Path) -> bool:
    """Tells whether a wheel is as it was built: by the hash beside it, or else by its own record.

    Args:
        wheel: The file. If it has no hash beside it and agrees with its record, it gets one.
    """
    if wheel.is_symlink() or not wheel.is_file():
        return False
    beside, found = wheel.with_name(f'{wheel.name}.sha256'), file_hash(wheel)
    if beside.is_file():
        return beside.read_text(encoding='utf-8').strip() == found
    if not agrees_with_record(wheel):
        return False
    with contextlib.suppress(OSError):  # a cache that is only read
        beside.write_text(f'{found}\n', encoding='utf-8')
    return True


def file_hash(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def agrees_with_record(wheel: Path) -> bool:
    """Tells whether the files in a wheel have the hashes that its RECORD lists."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [n for n in archive.namelist() if not n.endswith('/')]
            record = next(n for n in names if re.fullmatch(r'[^/]+\.dist-info/RECORD', n))
            rows = csv.reader(archive.read(record).decode().splitlines())
            listed = {row[0]: row[1] for row in rows if row}
            for name in names:
                if name == record or name.startswith(f'{record}.'):
                    continue
                digest = hashlib.sha256(archive.read(name)).digest()
                text = base64.urlsafe_b64encode(digest).rstrip(b'=').decode()
                if listed.get(name) != f'sha256={text}':
                    return False
    except (OSError, zipfile.BadZipFile, StopIteration, ValueError):
        return False
    return True


def publish(built: Path, folder: Path, requirement: str) -> Path:
    """Moves a folder with a finished wheel to its place in the cache, in one step.

    Whoever comes second with the same key takes the wheel of the first. What is there and no sound
    wheel of the requirement is replaced.

    Returns:
        Path of the wheel in `folder`.

    Raises:
        OSError: If the folder cannot be moved.
    """
    for _ in range(3):
        try:
            built.rename(folder)
            break
        except OSError:
            if not folder.is_dir():
                raise
            if cached_wheel(folder, requirement) is not None:
                shutil.rmtree(built)
                break
            # renamed before it is deleted, so that no one takes it in between
            spoilt = Path(tempfile.mkdtemp(prefix='.spoilt-', dir=folder.parent))
            with contextlib.suppress(OSError):  # another process was faster
                folder.rename(spoilt / 'wheel')
            shutil.rmtree(spoilt)
    wheel = cached_wheel(folder, requirement)
    if wheel is None:
        raise EnvError(f'there is no sound wheel of {requirement} in {folder}')
    return wheel


class Progress:
    """One line that tells how far a compilation is and how long it may still take."""

    def __init__(self, title: str, stream: TextIO | None = None, interval: float = 30.0) -> None:
        self.title, self.stream = title, stream or sys.stderr
        self.interval = 0.0 if self.stream.isatty() else interval
        self.start = self.first = time.monotonic()
        self.last_shown = float('-inf')
        self.done = self.total = self.skipped = 0

    def feed(self, line: str) -> None:
        """Takes a line of the build's output; ninja's begin with `[done/total]`."""
        match = re.match(r'\s*\[(\d+)/(\d+)\]', line)
        if match:
            if not self.total:
                self.first, self.skipped = time.monotonic(), int(match[1]) - 1
            self.done, self.total = int(match[1]), int(match[2])

    def text(self) -> str:
        """The line as it stands."""
        now = time.monotonic()
        if not self.total:
            return f'{self.title}: preparing, {clock(now - self.start)}'
        rate = (now - self.first) / max(self.done - self.skipped, 1)
        left = 'linking' if self.done >= self.total else ''
        left = left or f'about {clock(rate * (self.total - self.done))} left'
        return f'{self.title}: [{self.done}/{self.total}] {clock(now - self.start)} elapsed, {left}'

    def show(self, end: bool = False) -> None:
        """Writes the line, in place on a terminal, now and then elsewhere."""
        now = time.monotonic()
        if not end and now - self.last_shown < self.interval:
            return
        self.last_shown = now
        live = not self.interval
        self.stream.write(f'\r\033[K{self.text()}' if live else f'{self.text()}\n')
        self.stream.write('\n' if live and end else '')
        self.stream.flush()


def clock(seconds: float) -> str:
    """Formats a duration as `m:ss`."""
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


def build_environment(venv: Path, device: str) -> dict[str, str]:
    """Returns the environment variables under which pip compiles mmcv."""
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}
    env['PATH'] = f'{venv / "bin"}{os.pathsep}{env.get("PATH", "")}'  # ninja
    env['MMCV_WITH_OPS'] = '1'
    if device == 'cpu':
        env.update(FORCE_CUDA='0', CUDA_VISIBLE_DEVICES='')
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    jobs = cpus or 1
    try:
        memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
        jobs = max(1, min(jobs, memory // 2**31))  # 2 GiB a compiler
    except (ValueError, OSError, AttributeError):
        pass
    env.setdefault('MAX_JOBS', str(jobs))
    return env


def check_compiler(python: Path) -> None:
    """Raises an EnvError if there is no C++ compiler, or no header of `python`."""
    compiler = os.environ.get('CXX', 'c++').split()[0]
    if not (shutil.which(compiler) or shutil.which('g++')):
        raise EnvError(
            'compiling mmcv needs a C++ compiler; install one '
            '(Debian, Ubuntu: apt-get install g++), or set CXX, and call again'
        )
    code = "import sysconfig; print(sysconfig.get_path('include'))"
    include = subprocess.check_output([str(python), '-c', code], text=True).strip()
    if not Path(include, 'Python.h').exists():
        raise EnvError(
            f'compiling mmcv needs the headers of Python, not found in {include}; install them '
            '(Debian, Ubuntu: apt-get install python3-dev), or name another Python: '
            'make env PYTHON=3.11'
        )


def build_wheel(requirement: str, venv: Path, folder: Path, device: str) -> Path:
    """Compiles mmcv with its operators and puts the wheel in the cache.

    Args:
        requirement: What to build, e.g. `mmcv==2.1.0`.
        venv: Environment with torch and the packages of `requirements/build.txt`.
        folder: Cache folder of the wheel; it appears only when the wheel is complete.
        device: What `ops_device` returned.

    Returns:
        Path of the wheel.

    Raises:
        EnvError: If the compilation fails; the message ends with the log's last lines.
    """
    python = venv / 'bin' / 'python'
    check_compiler(python)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix='.building-', dir=folder.parent))
    descriptor, log = tempfile.mkstemp(prefix=f'{folder.name}-', suffix='.log')
    os.close(descriptor)  # a file of our own, of a name that no one could prepare
    log = Path(log)
    name = requirement.split('==')[0]
    # no cache of pip's: it would serve a wheel that was built against another torch
    command = [str(python), '-m', 'pip', 'wheel', '-v', '--no-cache-dir', '--no-deps']
    command += ['--no-build-isolation', '--no-binary', name, requirement, '-w', str(temporary)]
    say(f'compiling {requirement} for {device}: 10 minutes, once on this machine (log: {log})')
    say('meanwhile, in another terminal: make ops-demo (the geometry alone, a minute)')
    try:
        if run_logged(command, build_environment(venv, device), log, requirement) != 0:
            raise EnvError(explain_failure(requirement, log))
        if cached_wheel(temporary, requirement) is None:
            raise EnvError(f'pip built no sound wheel of {requirement}; see {log}')
        temporary.chmod(0o755)
        wheel = publish(temporary, folder, requirement)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    log.unlink()
    return wheel


def run_logged(command: list[str], env: dict[str, str], log: Path, title: str) -> int:
    """Runs a build, its output in `log`, its progress on the terminal; returns its exit status."""
    progress = Progress(f'    {title}')
    process = subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors='replace',
        start_new_session=True,
    )

    def pump() -> None:
        with log.open('w', encoding='utf-8') as file:
            for line in process.stdout:
                file.write(line)
                file.flush()
                progress.feed(line)

    reader = threading.Thread(target=pump, daemon=True)
    reader.start()
    try:
        while reader.is_alive():
            reader.join(1.0)
            progress.show()
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)  # the compilers too
        raise
    finally:
        progress.show(end=True)
    return process.wait()


def explain_failure(requirement: str, log: Path) -> str:
    """Describes a failed compilation: known causes, the last lines, where the rest is."""
    lines = log.read_text(encoding='utf-8', errors='replace').splitlines()
    text = '\n'.join(lines)
    hint = ''
    if re.search(r'Killed signal|cc1plus.*[Kk]illed|out of memory', text):
        hint = 'It ran out of memory: MAX_JOBS=1 make env.\n'
    elif 'No space left on device' in text:
        hint = 'The disk is full; TMPDIR names another place for the build.\n'
    elif re.search(r'No matching distribution|Temporary failure in name|ConnectionError', text):
        hint = 'The source of the package could not be downloaded.\n'
    tail = '\n'.join(f'    {line[:300]}' for line in lines[-20:])
    return f'building {requirement} failed.\n{hint}Its last lines:\n{tail}\nWhole log: {log}'
