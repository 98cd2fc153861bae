import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')

from mmdet.structures import DetDataSample  # noqa: E402
from mmengine.registry import VISUALIZERS  # noqa: E402
from mmengine.structures import PixelData  # noqa: E402

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)


def drawn(labels, **meta):
    visualizer = VISUALIZERS.build(dict(type='hyper_mm.DetLocalVisualizer'))
    visualizer.dataset_meta = dict(classes=['cat', 'sky'], palette=[(255, 0, 0), (0, 0, 255)])
    sample = DetDataSample()
    sample.pred_panoptic_seg = PixelData(sem_seg=torch.as_tensor(labels)[None], metainfo=meta)
    visualizer.add_datasample('image', IMAGE, sample, draw_gt=False)
    return visualizer.get_image()


def test_nothing_found():
    assert np.array_equal(drawn(np.full((40, 50), 2)), IMAGE)
    assert np.array_equal(drawn(np.full((40, 50), 7), label_names=['moon'], ignore_index=7), IMAGE)


def test_segments():
    labels = np.full((40, 50), 2)
    labels[:20] = 1001
    found = drawn(labels)
    assert not np.array_equal(found[:20], IMAGE[:20])
    assert np.array_equal(found[30:, 40:], IMAGE[30:, 40:])
