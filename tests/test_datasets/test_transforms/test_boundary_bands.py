"""GenerateBoundaryBands."""

import numpy as np
import pytest

from hyper_mm.registry import TRANSFORMS


def test_bands():
    labels = np.zeros((9, 9), np.uint8)
    labels[3:6, 3:6] = 1
    labels[0] = 255
    config = dict(type='hyper_mm.GenerateBoundaryBands', num_classes=2, dilate=3)
    found = TRANSFORMS.build(config)(dict(gt_seg_map=labels))
    assert found['gt_boundary'].shape == (1, 9, 9) and found['gt_boundary'].sum() == 8
    assert (found['gt_background'][0, 1:3, 4] == 1).all() and found['gt_background'][
        0, 0
    ].sum() == 0
    with pytest.raises(ValueError, match='num_classes'):
        TRANSFORMS.build(dict(config, num_classes=1))
