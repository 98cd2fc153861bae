"""Loaders of checkpoints are registered with mmengine's runner, whichever is imported first."""

import subprocess
import sys

import pytest

pytest.importorskip('mmengine')
CODE = """
import sys
import hyper_mm
assert 'mmengine.runner' not in sys.modules
import inspect
from importlib.machinery import SourceFileLoader
import mmengine.runner.checkpoint as runner
for address in ('timm-vit+https://x', 'weights-only+x.pth', 'x.pth'):
    loader = runner.CheckpointLoader._get_checkpoint_loader(address)
    assert loader.__module__ == 'hyper_mm.checkpoints', address
assert type(runner.__loader__) is type(runner.__spec__.loader) is SourceFileLoader
assert 'class CheckpointLoader' in inspect.getsource(runner)
assert not any(type(finder).__module__.startswith('hyper_mm') for finder in sys.meta_path)
print('done')
"""


def test_hyper_mm_first():
    done = subprocess.run([sys.executable, '-c', CODE], capture_output=True, text=True)
    assert done.stdout.split() == ['done'], done.stderr


def test_runner_first():
    from mmengine.runner.checkpoint import CheckpointLoader

    import hyper_mm.loaders  # noqa: F401

    loader = CheckpointLoader._get_checkpoint_loader('timm-vit+https://x')
    assert loader.__module__ == 'hyper_mm.checkpoints'
