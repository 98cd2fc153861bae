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


SCRIPTS = {
    'hyper_mm first': 'import hyper_mm, mmengine.runner',
    'runner first': 'import mmengine.runner, hyper_mm',
    'a framework first': 'import mmseg.apis, hyper_mm',
    'hyper_mm, then a framework': 'import hyper_mm, mmseg.apis',
}


@pytest.mark.parametrize(
    'order',
    [
        pytest.param(order, marks=[] if order == 'a framework first' else pytest.mark.slow)
        for order in SCRIPTS
    ],
)
def test_timm_weights_in_a_script_that_imports_hyper_mm_alone(order, tmp_path):
    """A stock model, no component of ours, ``init_cfg`` with ``timm-vit+``: in any order."""
    pytest.importorskip('mmseg')
    script = f"""
{SCRIPTS[order]}
import torch
from mmengine.registry import MODELS, init_default_scope
torch.save(dict(model={{'cls_token': torch.full((1, 1, 8), 3.0)}}), 'deit.pth')
init_default_scope('mmseg')
vit = MODELS.build(dict(type='VisionTransformer', embed_dims=8, num_heads=1, num_layers=1,
    img_size=32, init_cfg=dict(type='Pretrained', checkpoint='timm-vit+deit.pth')))
vit.init_weights()
print('loaded', vit.cls_token.mean().item())
"""
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, cwd=tmp_path
    )
    assert 'loaded 3.0' in done.stdout, done.stderr
