"""PartScenes as mmseg data sets."""

from __future__ import annotations

import pytest

from hyper_mm.datasets import part_scenes as ps

pytestmark = pytest.mark.mmseg
pytest.importorskip('mmseg')

SIZE = (48, 64)
PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {'type': 'mmseg.LoadAnnotations'},
    {'type': 'mmseg.PackSegInputs'},
]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return ps.generate(tmp_path_factory.mktemp('part_scenes'), ['ade'], 2, 1, SIZE, progress=False)[
        'ade'
    ]


@pytest.mark.parametrize('level', ['parts', 'wholes'])
def test_reads_what_was_written(root, level):
    from hyper_mm.datasets import part_scenes_seg

    name, folder, classes = {
        'parts': ('PartScenesDataset', 'annotations', ps.PART_CLASSES),
        'wholes': ('PartScenesWholesDataset', 'annotations_wholes', ps.WHOLE_CLASSES),
    }[level]
    dataset = getattr(part_scenes_seg, name)(
        data_root=str(root),
        data_prefix={'img_path': 'images/training', 'seg_map_path': f'{folder}/training'},
        pipeline=PIPELINE,
    )
    assert len(dataset) == 2
    assert dataset.metainfo['classes'] == classes
    assert len(dataset.metainfo['palette']) == len(classes)
    labels = dataset[1]['data_samples'].gt_sem_seg.data[0].numpy()
    expected = getattr(ps.render_scene(0, 1, SIZE), level)
    assert ((labels == 255) == (expected == 0)).all()
    assert (labels[expected > 0] == expected[expected > 0] - 1).all()


def test_registered():
    from hyper_mm.registry import DATASETS

    dataset = DATASETS.build({'type': 'hyper_mm.PartScenesDataset', 'lazy_init': True})
    assert dataset.reduce_zero_label and dataset.seg_map_suffix == '.png'
