"""Panoptic, instance and semantic segmentations of the masks and probabilities of queries."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...checks import check_count, check_range

INSTANCE_OFFSET = 1000
"""Value of a pixel: class plus this times the number of the instance, as in mmdet."""
CLASSES_AT_A_TIME = 64


class Instances(NamedTuple):
    """Instances of things."""

    scores: Tensor
    """``(K,)``, descending."""
    classes: Tensor
    """``(K,)``."""
    masks: Tensor
    """``(K, H, W)``, bool."""


def panoptic_map(
    probabilities: Tensor,
    logits: Tensor,
    things: Tensor,
    object_threshold: float = 0.8,
    overlap_threshold: float = 0.8,
) -> Tensor:
    """Assigns each pixel to one segment, as MaskFormer does.

    Queries whose likeliest class is "no object", or less likely than ``object_threshold``, are left
    out. Each pixel belongs to the query of the largest product of class and mask probability, if
    the mask is there (probability of 0.5 or more); a query of whose mask less than
    ``overlap_threshold`` is left is dropped. Regions of one class of stuff are one segment.

    Args:
        probabilities: ``(Q, T + 1)``, "no object" last.
        logits: Mask logits ``(Q, H, W)``.
        things: Whether each class is countable ``(T,)``.
        object_threshold: Least probability of a class.
        overlap_threshold: Least share of a mask.

    Returns:
        ``(H, W)``, int32: class, plus :data:`INSTANCE_OFFSET` times the number of the instance
        (from 1) for things; T where there is nothing.

    Raises:
        ValueError: If the numbers of queries or classes differ, there are as many classes as
            :data:`INSTANCE_OFFSET`, or a threshold lies outside of [0, 1].
    """
    check_range('[0, 1]', object_threshold=object_threshold, overlap_threshold=overlap_threshold)
    classes = _check(probabilities, logits, things)
    if classes >= INSTANCE_OFFSET:
        raise ValueError(
            f'a panoptic map takes fewer than {INSTANCE_OFFSET} classes, by which mmdet codes '
            f'instances, got {classes}: set panoptic_on=False, or name fewer'
        )
    found = torch.full(logits.shape[-2:], classes, dtype=torch.int32, device=logits.device)
    scores, labels = probabilities.max(-1)
    kept = (labels != classes) & (scores > object_threshold)
    if not kept.any():
        return found
    scores, labels, masks = scores[kept], labels[kept], logits[kept].sigmoid()
    owner = (scores[:, None, None] * masks).argmax(0)
    instance = 0
    for index, (label, mask) in enumerate(zip(labels.tolist(), masks >= 0.5)):
        whole, own = int(mask.sum()), mask & (owner == index)
        if not own.any() or own.sum() < overlap_threshold * whole:
            continue
        if things[label]:
            instance += 1
            found[own] = label + instance * INSTANCE_OFFSET
        else:
            found[own] = label
    return found


def best_instances(
    probabilities: Tensor, logits: Tensor, things: Tensor, keep: int = 100
) -> Instances:
    """The best pairs of a query and a class of things.

    A score is the class probability times the mean mask probability inside of the mask. Masks that
    are nowhere are left out.

    Args:
        probabilities: ``(Q, T + 1)``, "no object" last.
        logits: Mask logits ``(Q, H, W)``.
        things: Whether each class is countable ``(T,)``.
        keep: Instances at most.

    Returns:
        The instances.

    Raises:
        ValueError: If the numbers of queries or classes differ, or ``keep`` is not positive.
    """
    check_count(1, keep=keep)
    classes = _check(probabilities, logits, things)
    inside = logits > 0
    area = inside.flatten(1).sum(1)
    quality = (logits.sigmoid() * inside).flatten(1).sum(1) / area.clamp_min(1)
    scores = probabilities[:, :classes] * quality[:, None]
    scores = scores.masked_fill(~things | (area == 0)[:, None], -1)
    values, index = scores.flatten().topk(min(keep, scores.numel()))
    index, values = index[values >= 0], values[values >= 0]
    return Instances(values, index % classes, inside[index // classes])


def semantic_map(probabilities: Tensor, logits: Tensor) -> Tensor:
    r"""The best class of each pixel: :math:`\operatorname{argmax}_t \sum_q p_{qt} \sigma(m_q)`.

    A few classes at a time, so that memory does not grow with their number.

    Args:
        probabilities: ``(Q, T + 1)``, "no object" last.
        logits: Mask logits ``(Q, H, W)``.

    Returns:
        Classes ``(H, W)``, int64.
    """
    masks = logits.sigmoid().flatten(1)
    best = label = None
    for start in range(0, probabilities.shape[1] - 1, CLASSES_AT_A_TIME):
        stop = min(start + CLASSES_AT_A_TIME, probabilities.shape[1] - 1)
        values, index = (probabilities[:, start:stop].T @ masks).max(0)
        if best is None or label is None:
            best, label = values, index
        else:
            label = torch.where(values > best, index + start, label)
            best = best.maximum(values)
    if label is None:
        raise ValueError('there must be at least one class, got none')
    return label.view(logits.shape[-2:])


def _check(probabilities: Tensor, logits: Tensor, things: Tensor) -> int:
    """Returns the number of classes."""
    classes = probabilities.shape[-1] - 1
    if len(probabilities) != len(logits) or things.shape != (classes,):
        raise ValueError(
            f'probabilities (Q, T + 1), logits (Q, H, W) and things (T,) must fit, got '
            f'{tuple(probabilities.shape)}, {tuple(logits.shape)} and {tuple(things.shape)}'
        )
    return classes
