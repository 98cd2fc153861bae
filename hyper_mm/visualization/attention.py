"""How the nodes of a hierarchy divide an image among themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .colors import check_tree

MIN_STRENGTH = 0.1
"""A position counts as seen where a node gives it this much of even attention."""
TINY = 1e-300


@dataclass(frozen=True)
class LevelSummary:
    r"""Summary of the attention of one level of nodes.

    Attributes:
        shares: Fraction of the positions that each node wins, of shape `(N,)`. A position counts
            where some node gives it at least a tenth of what even attention would.
        distinctness: Mutual information of node and position over its maximum :math:`\log N`, nodes
            being equally likely: 0 where all nodes look at the same positions, 1 where every
            position belongs to one node.
        spread: Positions that a node looks at, on the average: the exponential of its entropy over
            the number of positions, in (0, 1].
        nested: Fraction of the counted positions whose winner is a child of the winner of the level
            above; None for the top level.
    """

    shares: np.ndarray
    distinctness: float
    spread: float
    nested: float | None

    @property
    def visible(self) -> int:
        """Number of nodes that win anywhere."""
        return int((self.shares > 0).sum())

    @property
    def covered(self) -> float:
        """Fraction of the positions that some node looks at."""
        return float(self.shares.sum())


def attention_summary(
    attention: Sequence[np.ndarray], assigned: bool = False
) -> list[LevelSummary]:
    """Measures how far the nodes of each level have divided the image among themselves.

    Args:
        attention: Attention of the nodes of each level over the positions, `(N_l, M)`, leaves
            first.
        assigned: It is an assignment: the shares of a position sum to 1 over the nodes of a level,
            not those of a node over the positions. Then positions are equally likely in
            `distinctness`, and not nodes.

    Returns:
        A summary of each level, leaves first.

    Raises:
        ValueError: If `attention` is not that of a tree.
    """
    attention = check_attention(attention, assigned)
    positions = attention[0].shape[1]
    winners = [a.argmax(0) for a in attention]
    summaries = []
    for level, (a, winner) in enumerate(zip(attention, winners)):
        count = len(a)
        counted = a.max(0) * (count if assigned else positions) >= MIN_STRENGTH
        shares = np.bincount(winner[counted], minlength=count) / positions
        if assigned:
            even = a.mean(1, keepdims=True)
            information = (a * np.log(np.maximum(a, TINY) / np.maximum(even, TINY))).sum(0).mean()
            a = a / np.maximum(a.sum(1, keepdims=True), TINY)
        else:
            even = np.maximum(a.mean(0), TINY)
            information = (a * np.log(np.maximum(a / even, TINY))).sum(1).mean()
        entropy = -(a * np.log(np.maximum(a, TINY))).sum(1)
        nested = None
        if level + 1 < len(attention):
            parent = winner // (count // len(attention[level + 1]))
            nested = float((parent == winners[level + 1])[counted].mean())
        summaries.append(
            LevelSummary(
                shares=shares,
                distinctness=float(information / np.log(count)) if count > 1 else 0.0,
                spread=float(np.exp(entropy)[a.sum(1) > 0].mean() / positions),
                nested=nested,
            )
        )
    return summaries


def check_attention(attention: Sequence[np.ndarray], assigned: bool = False) -> list[np.ndarray]:
    """Checks the attention of the nodes of a tree.

    Args:
        attention: Attention of each level `(N_l, M)`, leaves first.
        assigned: It is an assignment; see :func:`attention_summary`.

    Returns:
        The same in float64, each row scaled to the sum of 1, or each column of an assignment.

    Raises:
        ValueError: If levels do not form a tree, differ in positions, or hold numbers that are not
            weights.
    """
    attention = [np.asarray(a, dtype=np.float64) for a in attention]
    if not attention or any(a.ndim != 2 or a.shape[1] != attention[0].shape[-1] for a in attention):
        raise ValueError(
            'attention must hold a matrix (N_l, M) for each level, of the same M, got shapes '
            f'{[a.shape for a in attention]}'
        )
    check_tree([len(a) for a in attention])
    axis = 0 if assigned else 1
    for level, a in enumerate(attention):
        if not (np.isfinite(a).all() and (a >= 0).all() and (a.sum(axis) > 0).all()):
            raise ValueError(
                f'attention must hold weights: finite, not negative, no empty '
                f'{"column" if assigned else "row"}; level {level} '
                f'ranges from {a.min()} to {a.max()}'
            )
    return [a / a.sum(axis, keepdims=True) for a in attention]
