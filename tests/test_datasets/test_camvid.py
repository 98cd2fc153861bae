"""CamVid as an mmseg data set."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.mmseg
pytest.importorskip('mmseg')


def test_classes_and_palette():
    from hyper_mm.registry import DATASETS

    dataset = DATASETS.build({'type': 'hyper_mm.CamVidDataset', 'lazy_init': True})
    classes, palette = dataset.metainfo['classes'], dataset.metainfo['palette']
    assert len(classes) == len(palette) == 11
    assert (classes[0], classes[10]) == ('sky', 'bicyclist')
    assert dataset.reduce_zero_label


def test_reads_real_data(data_dir):
    from hyper_mm.datasets.camvid import CamVidDataset

    dataset = CamVidDataset(
        data_root=str(data_dir / 'camvid'),
        data_prefix={'img_path': 'images/validation', 'seg_map_path': 'annotations/validation'},
        pipeline=[
            {'type': 'LoadImageFromFile'},
            {'type': 'mmseg.LoadAnnotations'},
            {'type': 'mmseg.PackSegInputs'},
        ],
    )
    sample = dataset[0]
    labels = sample['data_samples'].gt_sem_seg.data
    assert sample['inputs'].shape[1:] == labels.shape[1:]
    assert set(labels.unique().tolist()) <= {*range(11), 255}
    rows = (labels[0] == 0).nonzero()[:, 0].float().mean()
    assert rows < (labels[0] == 3).nonzero()[:, 0].float().mean(), 'sky is above the road'
