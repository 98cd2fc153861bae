"""Pictures and scalars of the hierarchy in training, in all three frameworks."""

from __future__ import annotations

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')

from hyper_mm.datasets.part_scenes import generate  # noqa: E402
from hyper_mm.layers import HierarchyMapper  # noqa: E402
from tests.helpers import runs  # noqa: E402
from tests.helpers.runs import SIZE, TRAIN  # noqa: E402
from tests.helpers.stock_scripts import write_config  # noqa: E402

HOOK = "dict(type='hyper_mm.HierarchyVisualizationHook', interval=2, num_images=2)"


BACKENDS = "[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]"


def write(folder, base, hook=True) -> str:
    hooks = "[dict(type='hyper_mm.ExactResumeHook')" + (f', {HOOK}]' if hook else ']')
    path = folder / f'hook_{hook}.py'
    path.write_text(
        f'_base_ = {str(base)!r}\ncustom_hooks = {hooks}\nvisualizer = '
        f'dict(vis_backends={BACKENDS})\n'
    )
    return path


def mmseg(folder):
    return runs.write_config(folder / 'config', runs.make_data(folder / 'data'))


def mmdet(folder):
    pytest.importorskip('mmdet')
    from tests.test_tools.test_mmdet_scripts import TINY

    root = generate(folder / 'data', ['coco'], 8, 3, (SIZE, SIZE), progress=False)['coco']
    text = TINY + 'train_cfg["max_epochs"] = 1\n'
    return write_config(
        folder, 'himapper/himapper_vit-mini_part-scenes_det.py', text, root=str(root)
    )


def mmpretrain(folder):
    pytest.importorskip('mmpretrain')
    from tests.test_tools.test_mmpretrain_scripts import TINY

    root = generate(folder / 'data', ['imagenet'], 12, 12, (SIZE, SIZE), progress=False)['imagenet']
    return write_config(folder, 'himapper/himapper_deit-t_part-scenes_cls.py', TINY, root=str(root))


@pytest.mark.parametrize(
    'make',
    [
        pytest.param(mmseg, marks=pytest.mark.mmseg, id='mmseg'),
        pytest.param(mmdet, marks=[pytest.mark.mmdet, pytest.mark.slow], id='mmdet'),
        pytest.param(mmpretrain, marks=[pytest.mark.mmpretrain, pytest.mark.slow], id='mmpretrain'),
    ],
)
def test_draws_and_logs_and_changes_nothing(make, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    base = make(tmp_path)
    for hook in (True, False):
        config, work_dir = write(tmp_path, base, hook), tmp_path / f'{hook}'
        args = (config, '--work-dir', work_dir, '--seed', 1, '--deterministic')
        runs.run(TRAIN, *args, log=tmp_path / f'{hook}.log')
    with_hook, without = tmp_path / 'True', tmp_path / 'False'
    weights = sorted(with_hook.glob('*.pth'))[-1].name
    found = runs.differing(runs.weights(with_hook / weights), runs.weights(without / weights))
    assert found == []

    pictures = sorted(with_hook.rglob('hierarchy_*.png'))
    assert {p.name.split('_')[1] for p in pictures} == {'0', '1'}
    for picture in pictures:
        pixels = cv2.imread(str(picture))
        assert pixels.shape[1] == 1300 and pixels.std() > 20
    names = {'hi_mapper/distinct_1', 'hi_mapper/visible_3', 'hi_mapper/nested_1'}
    names |= {'hi_mapper/leaf_cosine', 'hi_mapper/image_cosine'}
    lines = next(with_hook.rglob('scalars.json')).read_text().splitlines()
    logged = [step for step in map(json.loads, lines) if 'hi_mapper/leaf_cosine' in step]
    assert logged and all(names <= set(step) for step in logged)
    assert all(np.isfinite(step[name]) for step in logged for name in names)
    events = EventAccumulator(str(next(with_hook.rglob('events.out.*')).parent)).Reload()
    curves = {'hi_mapper/curvature', 'hi_mapper/radius_1', 'hi_mapper/capped'}
    assert names | curves <= set(events.Tags()['scalars'])
    assert not list(without.rglob('hierarchy_*.png'))


class Pooled(torch.nn.Module):
    """A Hi-Mapper on pooled pixels."""

    def __init__(self):
        super().__init__()
        self.mapper = HierarchyMapper(
            8, tree=dict(num_leaves=4, num_levels=2), width=8, num_heads=2
        )

    def data_preprocessor(self, data, training):
        return dict(inputs=torch.stack(data['inputs']).float())

    def extract_feat(self, inputs):
        x = torch.nn.functional.avg_pool2d(inputs, 4).repeat(1, 3, 1, 1)[:, :8]
        x = x.flatten(2).mT
        self.mapper(x, x.mean(1, keepdim=True))


class Written:
    """Names of the scalars and pictures that a visualizer gets, with their steps."""

    def __init__(self):
        self.scalars, self.pictures = {}, []

    def add_scalars(self, scalars, step):
        self.scalars[step] = scalars

    def add_image(self, name, picture, step):
        assert picture.std() > 20
        self.pictures.append((name, step))


def test_without_draw_there_are_scalars_alone():
    from hyper_mm.engine.hooks.hierarchy_visualization_hook import HierarchyVisualizationHook

    images = [torch.randint(256, (3, 16, 24), dtype=torch.uint8) for _ in range(2)]
    data, model, found = dict(inputs=images, data_samples=[None, None]), Pooled(), {}
    for draw in (True, False):
        found[draw] = Written()
        hook = HierarchyVisualizationHook(interval=2, draw=draw)
        for i in range(3):
            runner = SimpleNamespace(iter=i, model=model, visualizer=found[draw])
            hook.after_train_iter(runner, i, data)
    assert found[True].pictures == [('hierarchy_0', 2), ('hierarchy_1', 2)]
    assert found[False].pictures == []
    assert found[False].scalars == found[True].scalars and [*found[False].scalars] == [2]
    assert 'hi_mapper/leaf_cosine' in found[False].scalars[2]


def test_model_without_a_hierarchy_is_refused(tmp_path):
    from hyper_mm.engine.hooks.hierarchy_visualization_hook import HierarchyVisualizationHook

    class Runner:
        model = torch.nn.Linear(2, 2)

    with pytest.raises(ValueError, match='HierarchyVisualizationHook: .* it has 0'):
        HierarchyVisualizationHook().before_run(Runner)


@pytest.mark.parametrize('name', ['interval', 'num_images'])
def test_bad_arguments(name):
    from hyper_mm.engine.hooks.hierarchy_visualization_hook import HierarchyVisualizationHook

    with pytest.raises(ValueError, match=f'{name} must be at least 1, got 0'):
        HierarchyVisualizationHook(**{name: 0})
