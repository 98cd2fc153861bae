"""Transforms of MONAI."""

import numpy as np
import pytest

pytest.importorskip('monai')

from hyper_mm.registry import TRANSFORMS  # noqa: E402


def build(name, **options):
    return TRANSFORMS.build(dict(type='hyper_mm.MonaiTransform', name=name, **options))


def data():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, (16, 24)).astype(np.uint8)
    return dict(img=(100 * labels)[..., None].repeat(3, -1), gt_seg_map=labels)


def test_labels_move_with_the_image():
    both = ['img', 'gt_seg_map']
    flip = build('Flipd', keys=both, spatial_axis=1)
    found = flip(data())
    assert np.array_equal(found['img'], data()['img'][:, ::-1])
    assert np.array_equal(found['gt_seg_map'], data()['gt_seg_map'][:, ::-1])
    assert found['img'].dtype == found['gt_seg_map'].dtype == np.uint8
    turn = build('Rotate90d', keys=both)(data())
    assert turn['img_shape'] == (24, 16) and turn['gt_seg_map'].shape == (24, 16)


def test_random_transforms_follow_the_seed_of_numpy():
    noise = build('RandGaussianNoised', prob=1.0, std=20.0)
    found = []
    for seed in (0, 0, 1):
        np.random.seed(seed)
        found.append(noise(data())['img'])
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])
    assert found[0].min() == 0 and found[0].dtype == np.uint8  # clipped, not wrapped
    assert 'RandGaussianNoised' in repr(noise)


def test_names_that_are_none():
    with pytest.raises(ValueError, match='RandAffined'):
        build('RandAfined')
    with pytest.raises(ValueError, match='dictionary transform'):
        build('RandAffine')
