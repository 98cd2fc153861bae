#!/usr/bin/env python3
"""Creates the environment of hyper_mm (`make env`): a virtual environment with a tested stack.

Needs Python 3.9 and the network, nothing else: uv is fetched when it is not there. mmcv has no
wheel for the tested torch, so it is compiled once (minutes) and the wheel is kept in the user's
cache, under a key that names everything its binary depends on. A second call does nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from mmcv_wheel import (
    EnvError,
    build_wheel,
    cache_root,
    cached_wheel,
    clock,
    ops_device,
    probe,
    say,
    wheel_key,
)

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / 'requirements'
CONSTRAINTS = REQUIREMENTS / 'constraints.txt'
EXTRA_REQUIREMENTS = tuple(REQUIREMENTS / f'{name}.txt' for name in ('tests', 'bench', 'docs'))
STAMP_NAME = 'hyper_mm.stamp'
PYTHONS = ('3.11', '3.12', '3.10', '3.13')  # in the order of preference; 3.11 is the tested one


@dataclass(frozen=True)
class Stack:
    """One supported set of packages.

    Attributes:
        name: Name of the stack, and of its file of requirements.
        folder: Folder of its environment.
        mmcv: Name of its mmcv; empty for the stack without OpenMMLab.
    """

    name: str
    folder: str
    mmcv: str = ''

    @property
    def requirements(self) -> Path:
        """The file that lists the packages of the stack."""
        return REQUIREMENTS / f'{self.name}.txt'


STACKS = {
    'openmmlab': Stack('openmmlab', '.venv', 'mmcv'),
    'onedl': Stack('onedl', '.venv-onedl', 'onedl-mmcv'),
    'ops': Stack('ops', '.venv-ops'),
}


def fingerprint(stack: Stack, root: Path = ROOT) -> str:
    """Hashes all that decides what is installed: stack, files, and the checkout's place."""
    digest = hashlib.sha256(f'{stack.name}\n{root}\n'.encode())
    files = [stack.requirements, CONSTRAINTS, *EXTRA_REQUIREMENTS, REQUIREMENTS / 'build.txt']
    scripts = [Path(__file__), Path(__file__).with_name('mmcv_wheel.py'), ROOT / 'setup.py']
    for file in (*files, *scripts):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def is_current(venv: Path, mark: str) -> bool:
    """Tells whether `venv` was completed with the fingerprint `mark` and still has its Python."""
    stamp = venv / STAMP_NAME
    return (
        (venv / 'bin' / 'python').exists()
        and stamp.is_file()
        and stamp.read_text(encoding='utf-8') == mark
    )


def find_uv() -> str:
    """Returns uv's path; where it is missing, puts a private copy in the user's cache.

    Raises:
        EnvError: If uv cannot be installed.
    """
    for candidate in (shutil.which('uv'), str(cache_root().parent / 'uv' / 'bin' / 'uv')):
        if candidate and runs([candidate, '--version']):
            return candidate
    folder = cache_root().parent / 'uv'
    say(f'fetching uv into {folder}')
    pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
    if not runs([sys.executable, *pip, '--target', str(folder), '--upgrade', 'uv']):
        subprocess.run([sys.executable, '-m', 'venv', str(folder)], check=False)
        runs([str(folder / 'bin' / 'python'), *pip, 'uv'])
    if not runs([str(folder / 'bin' / 'uv'), '--version']):
        raise EnvError('uv could not be installed; see https://docs.astral.sh/uv, then call again')
    return str(folder / 'bin' / 'uv')


def runs(command: list[str]) -> bool:
    """Tells whether a command exists and succeeds; its output is not shown."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def call(command: list[str]) -> None:
    """Runs a command in the checkout, its output shown; an EnvError names it if it fails."""
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}
    env.setdefault('UV_HTTP_TIMEOUT', '300')
    if subprocess.run(command, cwd=ROOT, env=env, check=False).returncode != 0:
        raise EnvError(f'this command failed: {" ".join(command)}')


def create_venv(uv: str, venv: Path, version: str | None) -> None:
    """Creates the virtual environment, unless a working one is there."""
    python = str(venv / 'bin' / 'python')
    if runs([python, '-c', 'import sys; sys.exit(sys.version_info < (3, 10))']):
        return
    if venv.exists():
        say(f'{venv.name} has no usable Python: it is created anew')
        shutil.rmtree(venv)
    if version is None:
        find = [uv, 'python', 'find', '--system', '--no-python-downloads']
        version = next((v for v in PYTHONS if runs([*find, v])), None)
    if version is None:
        version = PYTHONS[0]
        say(f'none of Python {", ".join(PYTHONS)} is installed: uv downloads {version} from GitHub')
    call([uv, 'venv', '--python', version, str(venv)])


def pinned(requirements: Path, name: str) -> str:
    """Returns the line `name==version` of a requirement file."""
    match = re.search(
        rf'^{re.escape(name)}==[^\s;#]+', requirements.read_text(encoding='utf-8'), re.MULTILINE
    )
    if match is None:
        raise EnvError(f'{requirements} does not pin {name}')
    return match[0]


def mmcv_wheel(stack: Stack, venv: Path) -> Path:
    """Returns the wheel of mmcv that fits an environment with torch, from the cache or built."""
    requirement = pinned(stack.requirements, stack.mmcv)
    target = probe(venv)
    device = ops_device(target)
    if device == 'cpu' and target.gpus:
        say(
            f'a GPU is visible, but no compiler of CUDA {target.cuda} (CUDA_HOME): '
            "mmcv's operators are built for the CPU only"
        )
    folder = cache_root() / wheel_key(*requirement.split('=='), target, device)
    wheel = cached_wheel(folder, requirement)
    if wheel is not None:
        say(f'mmcv from the cache: {wheel}')
        return wheel
    return build_wheel(requirement, venv, folder, device)


def mend_opencv(uv: str, python: str) -> None:
    """Swaps opencv for its headless build on machines without the graphics libraries it needs."""
    loaded = subprocess.run([python, '-c', 'import cv2'], capture_output=True, text=True)
    if loaded.returncode == 0 or 'cannot open shared object file' not in loaded.stderr:
        return
    say('opencv-python needs graphics libraries that are not here: taking the headless build')
    call([uv, 'pip', 'uninstall', '-q', '-p', python, 'opencv-python', 'opencv-python-headless'])
    pin = pinned(CONSTRAINTS, 'opencv-python-headless')
    call([uv, 'pip', 'install', '-q', '-p', python, '--no-deps', pin])


def install(stack: Stack, venv: Path, version: str | None) -> None:
    """Creates and fills the environment, and checks it."""
    uv = find_uv()
    create_venv(uv, venv, version)
    python = str(venv / 'bin' / 'python')
    pip = [uv, 'pip', 'install', '-p', python, '-c', str(CONSTRAINTS)]

    editable = [uv, 'pip', 'install', '-q', '-p', python, '--no-build-isolation', '--no-deps']
    if not stack.mmcv:
        say('installing torch')
        call([*pip, '-r', str(stack.requirements)])
        call([*editable, '-e', '.'])
        return
    say('installing torch and what compiling mmcv needs')
    torch = [pinned(stack.requirements, name) for name in ('torch', 'torchvision')]
    call([*pip, *torch, '-r', str(REQUIREMENTS / 'build.txt')])
    wheel = mmcv_wheel(stack, venv)

    say(f'installing the {stack.name} stack')
    files = [arg for file in (stack.requirements, *EXTRA_REQUIREMENTS) for arg in ('-r', str(file))]
    call([*pip, *files, f'{stack.mmcv} @ {wheel.as_uri()}'])
    mend_opencv(uv, python)
    call([*editable, '-e', '.'])

    say('compiling the packages to bytecode')
    # else each process does so, where PYTHONDONTWRITEBYTECODE is set: mmseg takes thrice the time
    runs([python, '-m', 'compileall', '-qq', '-j', '0', str(venv / 'lib')])

    say('checking the environment')
    call([python, '-m', 'hyper_mm.doctor', '--strict'])


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--stack', choices=sorted(STACKS), default='openmmlab')
    parser.add_argument('--python', help='version or path of the Python to use (default: 3.11)')
    parser.add_argument('--force', action='store_true', help='install again, stamp or not')
    args = parser.parse_args(argv)
    stack = STACKS[args.stack]
    venv = ROOT / stack.folder
    mark = fingerprint(stack)
    if not args.force and is_current(venv, mark):
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the compilers too
    started = time.monotonic()
    try:
        install(stack, venv, args.python or None)
    except EnvError as error:
        print(f'make env: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nmake env: interrupted; call it again to go on', file=sys.stderr)
        return 130
    (venv / STAMP_NAME).write_text(mark, encoding='utf-8')
    say(f'{stack.folder} is ready, after {clock(time.monotonic() - started)} minutes')
    return 0


if __name__ == '__main__':
    sys.exit(main())
