"""COCO records of a sample: instances, panoptic segments and categories."""

from __future__ import annotations

import numpy as np

from .scene import Sample
from .taxonomy import THING_CLASSES, WHOLE_CLASSES, WHOLE_IDS, WHOLE_PALETTE, WHOLE_TO_SUPER

_SEGMENTS_PER_CLASS = 1000


def whole_categories() -> list[dict]:
    """Return the panoptic categories; their ids are the whole labels, things first."""
    return [
        {
            'id': WHOLE_IDS[name],
            'name': name,
            'supercategory': WHOLE_TO_SUPER[name],
            'isthing': int(name in THING_CLASSES),
            'color': list(color),
        }
        for name, color in zip(WHOLE_CLASSES, WHOLE_PALETTE)
    ]


def thing_annotations(sample: Sample, image_id: int, first_id: int) -> list[dict]:
    """Return the COCO instance annotations of a sample.

    Args:
        sample: The sample.
        image_id: Id of its image.
        first_id: Id of its first annotation.

    Returns:
        One annotation a visible thing, its mask as an uncompressed RLE (exact, unlike polygons).
    """
    return [
        {
            'id': number,
            'image_id': image_id,
            'category_id': WHOLE_IDS[record.whole],
            'segmentation': encode_rle(sample.instances == record.id),
            'area': record.area,
            'bbox': list(record.bbox),
            'iscrowd': 0,
        }
        for number, record in enumerate(sample.records, first_id)
    ]


def panoptic_map(sample: Sample) -> np.ndarray:
    """Return the segment ids of a sample, (H, W) int32; 0 is void."""
    return _SEGMENTS_PER_CLASS * sample.wholes.astype(np.int32) + sample.instances


def segments_info(sample: Sample) -> list[dict]:
    """Return the panoptic segments of a sample: each thing, and each kind of stuff."""
    ids = panoptic_map(sample)
    segments = []
    for segment in np.unique(ids[ids > 0]):
        ys, xs = np.nonzero(ids == segment)
        x, y = int(xs.min()), int(ys.min())
        segments.append(
            {
                'id': int(segment),
                'category_id': int(segment) // _SEGMENTS_PER_CLASS,
                'area': len(xs),
                'bbox': [x, y, int(xs.max()) - x + 1, int(ys.max()) - y + 1],
                'iscrowd': 0,
            }
        )
    return segments


def encode_rle(mask: np.ndarray) -> dict:
    """Return COCO's uncompressed run-length code of a mask.

    Args:
        mask: (H, W) bool.

    Returns:
        `{'size': [H, W], 'counts': runs of zeros and ones in turn, down the columns}`.
    """
    pixels = np.concatenate([[False], mask.ravel(order='F')])
    starts = np.flatnonzero(pixels[1:] != pixels[:-1])
    counts = np.diff([0, *starts, mask.size])
    return {'size': list(mask.shape), 'counts': counts.tolist()}
