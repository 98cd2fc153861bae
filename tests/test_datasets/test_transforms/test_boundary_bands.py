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


def bands_of(labels, **options):
    config = dict(type='hyper_mm.GenerateBoundaryBands', num_classes=3, **options)
    found = TRANSFORMS.build(config)(dict(gt_seg_map=labels))
    return found['gt_boundary'], found['gt_background']


@pytest.fixture
def labels():
    labels = np.zeros((12, 12), np.uint8)
    labels[2:10, 2:10], labels[4:8, 4:8] = 1, 2
    return labels


def test_width_of_the_boundary(labels):
    one, two = (bands_of(labels, structures=[[1, 2]], erode=k)[0] for k in (1, 2))
    assert one.sum() == 64 - 36 and two.sum() == 64 - 16


def test_structures_and_background(labels):
    each = bands_of(labels)[0]
    nested = bands_of(labels, structures=[[1, 2], [2]])[0]
    assert each.shape == nested.shape == (2, 12, 12)
    assert nested[0].sum() == 64 - 36 and (each[1] == nested[1]).all()
    assert each[0].sum() > nested[0].sum()  # class 1 alone has an inner boundary too
    assert bands_of(labels, background=None)[0].shape[0] == 3
    assert (bands_of(labels, background=1)[0][1] == each[1]).all()


def test_pixels_of_the_ignored_label_are_in_no_band(labels):
    labels[:, :3] = 9
    boundary, background = bands_of(labels, ignore_index=9)
    assert not boundary[..., :3].any() and not background[..., :3].any()
    assert bands_of(labels)[1][..., :3].any()
