import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')

from mmdet.structures import DetDataSample  # noqa: E402
from mmengine.registry import VISUALIZERS  # noqa: E402
from mmengine.structures import PixelData  # noqa: E402

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)


CLASSES, PALETTE = ['cat', 'sky'], [(255, 0, 0), (0, 0, 255)]


def visualizer():
    made = VISUALIZERS.build(dict(type='hyper_mm.DetLocalVisualizer', name='segments'))
    made.dataset_meta = dict(classes=CLASSES, palette=PALETTE)
    return made


def segments(labels, **meta):
    return PixelData(sem_seg=torch.as_tensor(labels)[None], metainfo=meta)


def test_nothing_found():
    nothing = segments(np.full((40, 50), 2))
    other = segments(np.full((40, 50), 7), label_names=['moon'], ignore_index=7)
    for found in (nothing, other):
        assert visualizer()._draw_panoptic_seg(IMAGE, found, CLASSES, PALETTE) is IMAGE
    sample = DetDataSample(pred_panoptic_seg=nothing)
    visualizer().add_datasample('image', IMAGE, sample, draw_gt=False)


def test_segments_are_drawn():
    labels = np.full((40, 50), 2)
    labels[:20] = 1001
    found = visualizer()._draw_panoptic_seg(IMAGE, segments(labels).numpy(), CLASSES, PALETTE)
    assert found.shape == IMAGE.shape
    drawn, kept = (np.abs(found[rows].astype(int) - IMAGE[rows]).mean() for rows in (
        slice(0, 20), slice(20, 40)))  # fmt: skip
    assert drawn > 2 * kept
