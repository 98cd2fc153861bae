"""Pictures of tests, through the Runner."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip('mmseg')

from mmengine.config import Config  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from hyper_mm.engine.hooks.prediction_maps_hook import PredictionMapsHook  # noqa: E402
from hyper_mm.layers.taxonomy import Taxonomy  # noqa: E402
from tests.helpers import runs  # noqa: E402

TEXT = """
_base_ = {base!r}
model = dict(
    neck=None,
    backbone=dict(output_cls_token=False),
    decode_head=dict(
        type='hyper_mm.FCNHead',
        classifier=dict(type='LorentzMLR', embed_dims=4, max_radius=6.0),
        taxonomy=dict(file='part_scenes', loss='levels')),
    test_cfg=dict(mode='whole', radius={radius}))
custom_hooks = [dict(type='hyper_mm.PredictionMapsHook', taxonomy='part_scenes', interval=2)]
test_evaluator = [dict(type='hyper_mm.UncertaintyMetric', pixels=500)]
work_dir = {work_dir!r}
"""


def run(tmp_path, radius=True):
    base = runs.write_config(tmp_path / 'config', runs.make_data(tmp_path / 'data'))
    path = tmp_path / 'maps.py'
    path.write_text(TEXT.format(base=str(base), radius=radius, work_dir=str(tmp_path / 'runs')))
    runner = Runner.from_cfg(Config.fromfile(path))
    return runner, runner.test()


@pytest.mark.mmseg
def test_saves_uncertainty_and_levels(tmp_path):
    runner, scores = run(tmp_path)
    assert set(scores) == {f'uncertainty/{k}' for k in ('ece', 'ause_entropy', 'ause_radius')}
    assert all(np.isfinite(value) for value in scores.values())
    files = sorted(p.name for p in (tmp_path / 'runs').rglob('maps/*.png'))
    # of every second of three images
    endings = ('level1.png', 'level2.png', 'uncertainty.png')
    assert [name.split('_')[-1] for name in files] == list(endings) * 2, files
    for path in (tmp_path / 'runs').rglob('maps/*.png'):
        assert cv2.imread(str(path)).shape == (runs.SIZE, runs.SIZE, 3)


@pytest.mark.mmseg
def test_predictions_without_radii_are_refused(tmp_path):
    with pytest.raises(ValueError, match='predictions have no embedding_radius'):
        run(tmp_path, radius=False)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(uncertainty=False), 'nothing to draw'),
        (dict(levels=[1]), 'levels are those of a tree'),
        (dict(taxonomy='part_scenes', levels=[3]), r'levels must be in \[1, 2\] of part_scenes'),
        (dict(interval=0), 'interval must be'),
        (dict(radius=0.0), 'radius must be positive'),
    ],
)
def test_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        PredictionMapsHook(**options)


def test_the_origin_is_bright():
    import torch
    from mmengine.structures import PixelData

    heat = PredictionMapsHook(radius=2.0)._heat(PixelData(data=torch.tensor([[[0.0, 1.0, 9.0]]])))
    light = heat.astype(int).sum(-1)[0]
    assert light[0] > light[1] > light[2]
    assert Taxonomy.load('part_scenes').depths() == range(1, 3)


def test_images_of_one_name_are_refused(tmp_path):
    """Their pictures would be the same files."""
    import torch
    from mmengine.structures import BaseDataElement, PixelData

    hook = PredictionMapsHook(out_dir=str(tmp_path / 'maps'))
    hook.before_test(None)

    def draw(name):
        sample = BaseDataElement(metainfo=dict(img_path=name))
        sample.embedding_radius = PixelData(data=torch.zeros(1, 2, 2))
        hook.after_test_iter(None, 0, outputs=[sample])

    for name in ('x/a.png', 'x/a.png', 'x/b.png'):
        draw(name)
    with pytest.raises(ValueError, match='y/a.jpg and x/a.png would be the same files'):
        draw('y/a.jpg')
    assert len([*(tmp_path / 'maps').iterdir()]) == 2
