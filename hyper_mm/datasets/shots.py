"""CoOp's draw of shots and its two halves of the classes. Needs no framework."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

Item = tuple
"""An image: its path (or index), its label, and what else is known of it."""


def by_label(items: Iterable[Item]) -> dict[int, list[Item]]:
    """Items of each label, in the order in which the labels come."""
    found = defaultdict(list)
    for item in items:
        found[item[1]].append(item)
    return found


def draw_shots(items: Iterable[Item], shots: int, generator: random.Random) -> list[Item]:
    """Draws K items of each label, in the order in which the labels come.

    Args:
        items: Items, the label second.
        shots: Number K; labels with fewer items give all, and draw nothing.
        generator: Generator of the draw.

    Returns:
        The items drawn.
    """
    drawn = []
    for members in by_label(items).values():
        drawn += generator.sample(members, shots) if len(members) >= shots else members
    return drawn


def half(labels: Sequence, subsample: str) -> Sequence:
    """Base classes are the first ``ceil(n / 2)`` of the sorted labels, new ones the rest.

    Args:
        labels: Labels, sorted.
        subsample: ``'all'``, ``'base'`` or ``'new'``.

    Returns:
        The labels of that part.
    """
    count = (len(labels) + 1) // 2
    return dict(all=labels, base=labels[:count], new=labels[count:])[subsample]
