"""COCO records of a sample."""

import numpy as np
import pytest

from hyper_mm.datasets import part_scenes as ps
from hyper_mm.datasets.part_scenes.coco import (
    encode_rle,
    panoptic_map,
    segments_info,
    thing_annotations,
    whole_categories,
)


def decoded(rle):
    flat = np.repeat(np.arange(len(rle['counts'])) % 2, rle['counts']).astype(bool)
    return flat.reshape(rle['size'], order='F')


@pytest.mark.parametrize(
    'mask, counts',
    [
        ([[0, 1], [1, 1]], [1, 3]),
        (np.ones((2, 2)), [0, 4]),
        (np.zeros((2, 3)), [6]),
    ],
)
def test_rle_of_known_masks(mask, counts):
    mask = np.asarray(mask, bool)
    assert encode_rle(mask) == {'size': list(mask.shape), 'counts': counts}


def test_rle_comes_back():
    draw = np.random.default_rng(0)
    for _ in range(20):
        mask = draw.random((draw.integers(1, 9), draw.integers(1, 9))) < draw.random()
        assert np.array_equal(decoded(encode_rle(mask)), mask)


def test_categories_are_the_wholes():
    found = whole_categories()
    assert [c['id'] for c in found] == [ps.WHOLE_IDS[c['name']] for c in found]
    assert [c['name'] for c in found if c['isthing']] == list(ps.THING_CLASSES)
    assert len({tuple(c['color']) for c in found}) == len(found) == len(ps.WHOLE_CLASSES)


def test_annotations_and_segments_are_those_of_the_maps(samples):
    for sample in samples[:10]:
        found = thing_annotations(sample, 5, 11)
        assert [a['id'] for a in found] == list(range(11, 11 + len(sample.records)))
        for annotation, record in zip(found, sample.records):
            mask = decoded(annotation['segmentation'])
            assert np.array_equal(mask, sample.instances == record.id)
            assert annotation['area'] == mask.sum() and annotation['image_id'] == 5
        ids = panoptic_map(sample)
        segments = segments_info(sample)
        assert {s['id'] for s in segments} == set(np.unique(ids)) - {0}
        assert sum(s['area'] for s in segments) == (ids > 0).sum()
        things = [s for s in segments if s['id'] % 1000]
        assert len(things) == len(sample.records)
        for segment in segments:
            x, y, width, height = segment['bbox']
            inside = ids[y : y + height, x : x + width] == segment['id']
            assert inside.sum() == segment['area']
            assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
