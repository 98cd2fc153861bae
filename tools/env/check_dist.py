"""Builds the distributions (`make dist`) and checks them as a user of the package index meets them.

Contents, size, metadata, the same bytes from a second build; then the wheel is installed into a
fresh environment with torch alone, where the geometry must run, and into one that sees the packages
of this environment, where OpenMMLab must find the components and configs.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

from make_env import CONSTRAINTS, REQUIREMENTS, ROOT, find_uv, pinned
from mmcv_wheel import EnvError, say

LIMIT = 3 * 2**20
"""Largest size of a distribution in bytes."""
WANTED = {
    'sdist': ('README.md', 'Makefile', 'docs/changelog.md', 'tests/conftest.py', 'setup.py'),
    'wheel': ('hyper_mm/.mim/configs/himapper_deit-s_ade20k.py', 'hyper_mm/py.typed'),
}
FORBIDDEN = ('__pycache__', '.pyc', '/work_dirs/', '/_build/')
ALONE = """
import sys
import torch
import hyper_mm.layers
from hyper_mm.ops import lorentz
u = torch.randn(8, 4)
assert torch.allclose(lorentz.logmap0(lorentz.expmap0(u, c=1.0), c=1.0), u, atol=1e-5)
assert not {'mmengine', 'mmcv'} & set(sys.modules)
print('with torch alone:', hyper_mm.__file__)
"""
BESIDE = """
import hyper_mm
from mmengine.config import Config
from mmengine.registry import MODELS
with open('own.py', 'w') as file:
    file.write("_base_ = 'hyper_mm::himapper/deit-t_camvid.py'")
cfg = Config.fromfile('own.py')
neck = MODELS.build(dict(type='hyper_mm.HiMapper', in_channels=64))
print('beside OpenMMLab:', hyper_mm.__file__, type(neck).__name__, len(cfg.model))
"""


def build(target: Path) -> tuple[Path, Path]:
    """Builds the source distribution from the tracked files, and the wheel from it."""
    source = target / 'source'
    files = run('git', 'ls-files', '-z', cwd=ROOT).split('\0')
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    env = {**os.environ, 'SOURCE_DATE_EPOCH': run('git', 'log', '-1', '--format=%ct').strip()}
    command = [sys.executable, '-m', 'build', '--no-isolation', '--outdir', str(target)]
    run(*command, str(source), env=env)
    (sdist,), (wheel,) = target.glob('*.tar.gz'), target.glob('*.whl')
    fix_times(sdist, int(env['SOURCE_DATE_EPOCH']))
    return sdist, wheel


def fix_times(sdist: Path, seconds: int) -> None:
    """Writes a source distribution again, with one time and owner for all: setuptools does not."""
    with tarfile.open(sdist) as archive:
        files = [(m, archive.extractfile(m).read()) for m in archive.getmembers() if m.isfile()]
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode='w', format=tarfile.PAX_FORMAT) as archive:
        for member, content in sorted(files, key=lambda pair: pair[0].name):
            clean = tarfile.TarInfo(member.name)
            clean.size, clean.mtime, clean.mode = len(content), seconds, member.mode
            archive.addfile(clean, io.BytesIO(content))
    with open(sdist, 'wb') as file, gzip.GzipFile('', 'wb', fileobj=file, mtime=seconds) as packed:
        packed.write(data.getvalue())


def run(*command: str, cwd: Path = ROOT, env: dict | None = None) -> str:
    """Runs a command and returns what it prints; an EnvError shows it if the command fails."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise EnvError(f'{" ".join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}')
    return done.stdout


def names(path: Path) -> list[str]:
    """Names of the files of a distribution, without the top folder of a source distribution."""
    if path.suffix == '.whl':
        return zipfile.ZipFile(path).namelist()
    with tarfile.open(path) as archive:
        return [name.partition('/')[2] for name in archive.getnames()]


def check_contents(path: Path, kind: str) -> None:
    """Raises an EnvError for what a distribution lacks, holds by mistake, or if it is too large."""
    found = names(path)
    missing = [name for name in WANTED[kind] if name not in found]
    wrong = [name for name in found if any(part in f'/{name}' for part in FORBIDDEN)]
    if missing or wrong:
        raise EnvError(f'{path.name} lacks {missing} and holds {wrong[:5]}')
    if path.stat().st_size > LIMIT:
        raise EnvError(f'{path.name} has {path.stat().st_size} bytes, more than {LIMIT}')
    say(f'{path.name}: {len(found)} files, {path.stat().st_size / 2**20:.2f} MiB')


def install_and_run(wheel: Path, folder: Path, code: str, beside: bool) -> None:
    """Installs the wheel into a fresh environment and runs a few lines there."""
    uv = find_uv()
    run(uv, 'venv', '-q', '--python', sys.executable, str(folder))
    python = str(folder / 'bin' / 'python')
    pip = [uv, 'pip', 'install', '-q', '-p', python]
    if beside:
        run(*pip, '--no-deps', str(wheel))
        packages = run(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))')
        # the packages of this environment, without its editable installation of hyper_mm
        Path(packages.strip(), 'stack.pth').write_text(
            sysconfig.get_path('purelib') + '\n', encoding='utf-8'
        )
    else:
        run(*pip, '-c', str(CONSTRAINTS), pinned(REQUIREMENTS / 'ops.txt', 'torch'), str(wheel))
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    text = run(python, '-c', code, cwd=folder, env=env)
    if str(folder) not in text:
        raise EnvError(f'not the installed wheel was run: {text}')
    say(text.strip().splitlines()[-1].replace(str(folder), '...'))


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out-dir', type=Path, default=ROOT / 'dist')
    args = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as name:
            temporary = Path(name)
            first, second = build(temporary / 'a'), build(temporary / 'b')
            for path, again, kind in zip(first, second, WANTED):
                check_contents(path, kind)
                digests = {hashlib.sha256(p.read_bytes()).hexdigest() for p in (path, again)}
                if len(digests) > 1:
                    raise EnvError(f'{path.name}: a second build has other bytes')
            say(run(sys.executable, '-m', 'twine', 'check', *map(str, first)).strip())
            install_and_run(first[1], temporary / 'alone', ALONE, beside=False)
            install_and_run(first[1], temporary / 'beside', BESIDE, beside=True)
            args.out_dir.mkdir(parents=True, exist_ok=True)
            for path in first:
                shutil.copy2(path, args.out_dir)
    except EnvError as error:
        print(f'make dist: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
