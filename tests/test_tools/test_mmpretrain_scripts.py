"""mmpretrain's own scripts and inferencer on a tiny classifier with Hi-Mapper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmseg')  # the server of tests.helpers.runs has it loaded
pytest.importorskip('mmpretrain')

from tests.helpers import runs  # noqa: E402
from tests.helpers.runs import REPO, SIZE  # noqa: E402
from tests.helpers.stock_scripts import StockScripts, write_config  # noqa: E402

pytestmark = pytest.mark.mmpretrain
STOCK = StockScripts('mmpretrain')

TINY = """
model = dict(
    backbone=dict(
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        patch_size=16),
    neck=dict(
        in_channels=16, num_leaves=8, num_levels=3, width=8, num_heads=2, hyp_dim=8),
    head=dict(in_channels=16),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))
data = dict(data_root={root!r})
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False, dataset=data)
val_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False, dataset=data)
test_dataloader = val_dataloader
default_hooks.update(
    checkpoint=dict(max_keep_ckpts=2),
    ema=dict(type='EMAHook', momentum=0.1, priority='ABOVE_NORMAL'))
"""


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    from hyper_mm.datasets.part_scenes import generate

    folder = tmp_path_factory.mktemp('data')
    return generate(folder, ['imagenet'], 12, 12, (SIZE, SIZE), progress=False)['imagenet']


@pytest.fixture(scope='module')
def config(tmp_path_factory, root) -> Path:
    """The config of PartScenes' things, made tiny, with averaged weights and mixed images."""
    base = 'himapper/himapper_deit-t_part-scenes_cls.py'
    return write_config(tmp_path_factory.mktemp('config'), base, TINY, root=str(root))


@pytest.fixture(scope='module')
def trained(tmp_path_factory, config) -> Path:
    return STOCK.train(config, tmp_path_factory.mktemp('trained'))


def test_train(trained):
    STOCK.check_losses(trained, 6, set())
    assert 'accuracy/top1' in (trained / 'log').read_text()


def test_test(trained, config, tmp_path):
    out = tmp_path / 'metrics.json'
    args = ('--work-dir', tmp_path, '--out', out, '--out-item', 'metrics')
    STOCK.run('test.py', config, trained / 'epoch_2.pth', *args, log=tmp_path / 'log')
    found = json.loads(out.read_text())['accuracy/top1']
    assert f'accuracy/top1: {found:.4f}' in (trained / 'log').read_text()


def test_resume(trained, config, tmp_path):
    STOCK.check_resume(trained, config, tmp_path)


def test_get_flops(config, tmp_path):
    text = STOCK.run(
        'analysis_tools/get_flops.py', config, '--shape', SIZE, SIZE, log=tmp_path / 'log'
    )
    assert 'Params' in text and 'neck' in text


def test_inferencer(trained, config, root):
    from mmengine.registry import DefaultScope
    from mmpretrain import ImageClassificationInferencer

    images = [str(path) for path in sorted((root / 'val').rglob('*.*'))[:2]]
    with DefaultScope.overwrite_default_scope('mmpretrain'):  # other tests leave theirs
        inferencer = ImageClassificationInferencer(
            str(config), pretrained=str(trained / 'epoch_2.pth'), device='cpu'
        )
        results = inferencer(images, show=False)
    names = {path.name for path in (root / 'val').iterdir()}
    assert len(results) == 2 and {result['pred_class'] for result in results} <= names
    assert all(abs(result['pred_scores'].sum() - 1) < 1e-4 for result in results)


def test_export_of_averaged_weights(trained, tmp_path):
    path = REPO / 'tools' / 'model_converters' / 'export_backbone.py'
    for name, options in (('ema', ['--ema']), ('raw', ['--raw'])):
        args = (trained / 'epoch_2.pth', tmp_path / f'{name}.pth', *options)
        text = runs.run(path, *args, log=tmp_path / 'log')
        assert 'neck' in text.split('left out:')[1]
    ema, raw = (
        torch.load(tmp_path / f'{name}.pth', weights_only=True)['state_dict']
        for name in ('ema', 'raw')
    )
    assert ema.keys() == raw.keys()
    assert any(not torch.equal(ema[name], raw[name]) for name in ema)
