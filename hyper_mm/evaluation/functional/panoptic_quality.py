"""Panoptic quality (Kirillov et al., Panoptic Segmentation, CVPR 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

IOU = 0.5
"""Segments match above this intersection over union: each with one other at most."""


def match_segments(
    predicted: np.ndarray,
    predicted_classes: Mapping[int, int],
    truth: np.ndarray,
    segments: Sequence[Mapping],
    num_classes: int,
) -> np.ndarray:
    r"""Counts the matches of the segments of an image.

    Pixels of no segment of the truth are void: they are left out of the union of a predicted
    segment. A predicted segment without a match that lies for the most part in void, or in a crowd
    of its class, does not count. Crowds match nothing and are not missed.

    Args:
        predicted: Segment of each pixel ``(H, W)``; those without a class are of no segment.
        predicted_classes: Class of each predicted segment.
        truth: Segment of each pixel ``(H, W)``.
        segments: Segments of the truth: ``id``, ``category`` (class) and ``iscrowd``.
        num_classes: Number of classes T.

    Returns:
        ``(4, T)``: sum of the IoU of the matches, matches (TP), predictions without a match (FP),
        segments of the truth without a match (FN).

    Raises:
        ValueError: If the maps have different sizes.
    """
    if predicted.shape != truth.shape:
        raise ValueError(
            f'the maps must have one size, got {predicted.shape} predicted and {truth.shape} true'
        )
    found = np.zeros((4, num_classes))
    known = {int(segment['id']): segment for segment in segments}
    rows, row = np.unique(predicted, return_inverse=True)
    columns, column = np.unique(truth, return_inverse=True)
    both = np.zeros((len(rows), len(columns)), np.int64)
    np.add.at(both, (row.reshape(-1), column.reshape(-1)), 1)
    areas, true_areas = both.sum(1), both.sum(0)
    is_void = np.array([int(c) not in known for c in columns])
    void = both[:, is_void].sum(1)
    matched: set[int] = set()
    for index, segment in enumerate(int(r) for r in rows):
        label = predicted_classes.get(segment)
        if label is None:
            continue
        covered, hit = void[index], False
        for place, other in enumerate(int(c) for c in columns):
            truth_segment = known.get(other)
            if truth_segment is None or truth_segment['category'] != label:
                continue
            shared = both[index, place]
            if truth_segment.get('iscrowd'):
                covered += shared
                continue
            union = areas[index] + true_areas[place] - shared - void[index]
            if shared > IOU * union:
                found[:2, label] += shared / union, 1
                matched.add(other)
                hit = True
        if not hit and covered <= IOU * areas[index]:
            found[2, label] += 1
    for number, segment in known.items():
        if number not in matched and not segment.get('iscrowd'):
            found[3, segment['category']] += 1
    return found


def panoptic_quality(counts: np.ndarray, classes: Sequence[int] | np.ndarray) -> dict[str, float]:
    r"""Means over the classes that are there in the truth or the predictions.

    .. math:: \text{PQ} = \text{SQ} \cdot \text{RQ}, \quad
        \text{SQ} = \frac{\sum_{TP} \text{IoU}}{|TP|}, \quad
        \text{RQ} = \frac{|TP|}{|TP| + |FP| / 2 + |FN| / 2}

    Args:
        counts: ``(4, T)``: see :func:`match_segments`, summed over images.
        classes: The classes to take.

    Returns:
        ``PQ``, ``SQ`` and ``RQ`` in percent; NaN where no class is there.
    """
    iou, hits, false, missed = counts[:, list(classes)]
    total = hits + false / 2 + missed / 2
    there = total > 0
    if not there.any():
        return dict(PQ=float('nan'), SQ=float('nan'), RQ=float('nan'))
    iou, hits, total = iou[there], hits[there], total[there]
    values = dict(PQ=iou / total, SQ=iou / np.maximum(hits, 1), RQ=hits / total)
    return {name: 100 * float(value.mean()) for name, value in values.items()}
