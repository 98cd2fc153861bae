"""mmdet's own scripts on a tiny detector with masks and Hi-Mapper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip('mmseg')  # the server of tests.helpers.runs has it loaded
pytest.importorskip('mmdet')

from tests.helpers.runs import SIZE  # noqa: E402
from tests.helpers.stock_scripts import StockScripts, write_config  # noqa: E402

pytestmark = pytest.mark.mmdet
STOCK = StockScripts('mmdet')

TINY = """
model = dict(
    backbone=dict(arch=dict(
        embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)),
    neck=dict(
        in_channels=16, width=8, num_heads=2,
        tree=dict(num_leaves=8, num_levels=3), lift=dict(hyp_dim=8),
        neck=dict(in_channels=16)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=16))))
data = dict(data_root={root!r}, indices=6)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=data)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=data)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={root!r} + '/annotations/instances_val.json')
test_evaluator = val_evaluator
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> Path:
    from hyper_mm.datasets.part_scenes import generate

    folder = tmp_path_factory.mktemp('data')
    root = generate(folder, ['coco'], 8, 3, (SIZE, SIZE), progress=False)['coco']
    base = 'himapper/himapper_vit-mini_part-scenes_det.py'
    return write_config(tmp_path_factory.mktemp('config'), base, TINY, root=str(root))


@pytest.fixture(scope='module')
def trained(tmp_path_factory, config) -> Path:
    return STOCK.train(config, tmp_path_factory.mktemp('trained'))


def test_train(trained):
    STOCK.check_losses(trained, 6, {'loss_mask'})


def test_test(trained, config, tmp_path):
    args = ('--work-dir', tmp_path, '--show-dir', 'shown')
    text = STOCK.run('test.py', config, trained / 'epoch_2.pth', *args, log=tmp_path / 'log')
    for metric in ('bbox', 'segm'):
        found = re.findall(rf'coco/{metric}_mAP: +(-?[0-9.]+)', text)
        assert found and -1 <= float(found[-1]) <= 1
    assert len(list(tmp_path.rglob('*.png')) + list(tmp_path.rglob('*.jpg'))) == 3


@pytest.mark.slow
def test_resume(trained, config, tmp_path):
    STOCK.check_resume(trained, config, tmp_path)


def test_get_flops(config, tmp_path):
    text = STOCK.run('analysis_tools/get_flops.py', config, '--num-images', 1, log=tmp_path / 'log')
    assert 'Flops' in text and 'Params' in text


def test_browse_dataset(config, tmp_path):
    args = ('--output-dir', tmp_path / 'shown', '--not-show')
    STOCK.run('analysis_tools/browse_dataset.py', config, *args, log=tmp_path / 'log')
    assert list((tmp_path / 'shown').rglob('*.*'))


def test_inferencer(trained, config):
    from mmdet.apis import DetInferencer

    inferencer = DetInferencer(str(config), str(trained / 'epoch_2.pth'), device='cpu')
    root = Path(inferencer.cfg.val_dataloader.dataset.data_root)
    image = next(iter(sorted((root / 'val').iterdir())))
    found = inferencer(str(image), show=False)['predictions']
    assert len(found) == 1 and len(found[0]['scores']) == len(found[0]['bboxes'])
