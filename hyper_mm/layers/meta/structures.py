"""Structures of label maps: each a union of classes, so that they may be nested.

A cup within a disc, a tumour core within a tumour: with the classes 1 (rim) and 2 (cup), the disc
is ``[1, 2]`` and the cup ``[2]``. Labels and softmax stay those of disjoint classes, and the
structures are consistent by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_

import torch
from torch import Tensor

Structures = Sequence[Sequence[int]]


def resolve_structures(
    structures: Structures | None, num_classes: int, background: int | None = 0
) -> list[list[int]]:
    """The classes of each structure.

    Args:
        structures: Classes of each structure; None for one structure a class.
        num_classes: Number of classes.
        background: Class that is no structure, where ``structures`` is None; None if all are.

    Returns:
        A list of classes for each structure.

    Raises:
        ValueError: If there is no structure, or one has no class or one that does not exist.
    """
    if structures is None:
        found = [[k] for k in range(num_classes) if k != background]
        if not found:
            raise ValueError(
                f'num_classes must leave a structure beside background={background}, '
                f'got {num_classes}'
            )
        return found
    found = [list(classes) for classes in structures]
    if not found or not all(found) or not all(0 <= k < num_classes for c in found for k in c):
        raise ValueError(
            f'structures must be lists of classes in 0..{num_classes - 1}, got {structures}'
        )
    return found


def structure_masks(labels: Tensor, structures: Structures) -> Tensor:
    """Masks of structures.

    Args:
        labels: Label maps ``(..., H, W)``.
        structures: Classes of each of the S structures.

    Returns:
        Boolean masks ``(..., S, H, W)``.
    """
    masks = [reduce(or_, (labels == k for k in classes)) for classes in structures]
    return torch.stack(masks, -3)
