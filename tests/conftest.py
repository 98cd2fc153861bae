"""Fixtures shared by all tests."""

from __future__ import annotations

import contextlib
import copy
import gc
import importlib.metadata
import os
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

REPO = Path(__file__).resolve().parents[1]


try:
    importlib.metadata.version('onedl-mmengine')
    ONEDL = True
except importlib.metadata.PackageNotFoundError:
    ONEDL = False


TORCH = tuple(int(number) for number in torch.__version__.split('.')[:2])
# what torch itself cannot do, whose oldest supported version is 2.1
no_half_autocast = pytest.mark.skipif(
    TORCH < (2, 3), reason='this torch has no float16 autocast on processors'
)
no_old_dynamo = pytest.mark.skipif(TORCH < (2, 2), reason='this torch cannot record it')


def reference_dir(variable: str, default: str) -> Path:
    """Folder of reference data: the environment variable, or its default beside the project."""
    return Path(os.environ.get(variable, REPO.parent / 'shared' / default))


def golden_files(pattern: str) -> list:
    """Golden files for parametrisation; a single skipped entry where the folder is missing."""
    folder = reference_dir('HYPER_MM_GOLDEN', 'golden')
    if not folder.is_dir():
        skip = pytest.mark.skip(reason=f'no golden folder at {folder} (HYPER_MM_GOLDEN)')
        return [pytest.param(None, marks=skip, id=pattern)]
    files = sorted(folder.glob(pattern))
    if not files:
        skip = pytest.mark.skip(reason=f'no {pattern} in {folder} (HYPER_MM_GOLDEN)')
        return [pytest.param(None, marks=skip, id=pattern)]
    return [pytest.param(file, id=file.stem) for file in files]


def pytest_terminal_summary(terminalreporter):
    """Says what was not tested because reference data are missing, and how to get them."""
    reasons = [str(report.longrepr) for report in terminalreporter.stats.get('skipped', [])]
    for variable, what in (
        ('HYPER_MM_GOLDEN', 'parity with reference vectors'),
        ('HYPER_MM_DATA', 'runs on small real data sets'),
    ):
        count = sum(f'({variable})' in reason for reason in reasons)
        if count:
            terminalreporter.write_line(
                f'Not tested: {what}, {count} tests; set {variable}, see docs/test_data.md'
            )


def make_runs_fast() -> None:
    """Leaves out of mmengine's runs in this process what takes longer than a small run itself."""
    gc.collect()
    gc.freeze()
    with contextlib.suppress(ImportError):
        from mmengine.config import Config, config
        from mmengine.dataset import base_dataset

        # each data set collects garbage, among all that has been imported
        base_dataset.gc = types.SimpleNamespace(collect=lambda: 0)
        # the config is formatted seven times a run, and once a checkpoint
        config.FormatCode = lambda text, **options: (text, False)
        Config._file2dict = staticmethod(read_once(Config._file2dict))


def read_once(read: Callable) -> Callable:
    """Keeps what configs of the project hold: several tests read each of them, with its bases.

    A config of the project changes in no test, but it depends on the environment.
    """
    kept: dict[tuple, tuple] = {}
    ours = f'{REPO / "configs"}{os.sep}'

    def file2dict(filename, *args, **options):
        path = os.path.abspath(filename)
        if not path.startswith(ours):
            return read(filename, *args, **options)
        key = (path, args, *sorted(options.items()), *sorted(os.environ.items()))
        if key not in kept:
            kept[key] = read(filename, *args, **options)
        return copy.deepcopy(kept[key])

    return file2dict


def separate_runs() -> None:
    """Gives each runner of this process a message hub of its own.

    mmengine names hubs by the second, so that a run which starts in the same second as another one
    finds its best score there and saves no checkpoint.
    """
    with contextlib.suppress(ImportError):
        from mmengine.logging import MessageHub
        from mmengine.runner import Runner

        build = Runner.build_message_hub

        def build_message_hub(runner, message_hub=None):
            if message_hub is None:
                MessageHub._instance_dict.pop(runner.experiment_name, None)
            return build(runner, message_hub)

        Runner.build_message_hub = build_message_hub


def pytest_collection_finish():
    make_runs_fast()
    separate_runs()


def pytest_runtest_setup(item):
    if item.get_closest_marker('gpu') and not torch.cuda.is_available():
        pytest.skip('needs a CUDA device')


@pytest.fixture(scope='session')
def repo() -> Path:
    """Root of the checkout."""
    return REPO


@pytest.fixture(scope='session')
def golden_dir() -> Path:
    """Folder of golden vectors; skips where there is none."""
    folder = reference_dir('HYPER_MM_GOLDEN', 'golden')
    if not folder.is_dir():
        pytest.skip(f'no golden folder at {folder} (HYPER_MM_GOLDEN)')
    return folder


@pytest.fixture(scope='session')
def data_dir() -> Path:
    """Folder of real data; skips where there is none."""
    folder = reference_dir('HYPER_MM_DATA', 'data')
    if not folder.is_dir():
        pytest.skip(f'no data folder at {folder} (HYPER_MM_DATA)')
    return folder


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def mmdet_scope():
    """The scope of mmdet, whatever the tests before have left."""
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope('mmdet'):
        yield
