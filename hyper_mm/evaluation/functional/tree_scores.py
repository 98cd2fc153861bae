"""How well a tree of clusters follows a tree of classes, from counts alone."""

from __future__ import annotations

import numpy as np


def purity(counts: np.ndarray, balanced: bool = False) -> float:
    """Fraction of pixels whose cluster's majority class is their class.

    Args:
        counts: Pixels ``(N, K)`` of each cluster and class.
        balanced: Give every class the same weight, in the majority, too.

    Returns:
        A number in [0, 1].
    """
    counts = counts[:, counts.any(0)].astype(float)
    if balanced:
        counts = counts / counts.sum(0)
    return float(counts.max(1).sum() / counts.sum())


def containment(joint: np.ndarray, parents: np.ndarray) -> float:
    """Fraction of pixels whose node is the child of their node one level above.

    Args:
        joint: Pixels ``(N, P)`` by node and by node of the level above.
        parents: Parent ``(N,)`` of each node.

    Returns:
        A number in [0, 1].
    """
    return float(joint[np.arange(len(joint)), parents].sum() / joint.sum())


def triplet_agreement(
    counts: np.ndarray, ancestors: np.ndarray, wholes: np.ndarray
) -> tuple[float, float]:
    r"""Chance-corrected triplet agreement with the true tree, of parts and of wholes.

    Of pixels ``a, b, c`` of which the true tree joins ``a`` and ``b`` first, it is
    :math:`2 P(t(a, b) < t(a, c)) + P(t(a, b) = t(a, c)) - 1` with ``t`` the lowest level at which
    the tree of clusters joins two pixels: 1 for a tree that always agrees, 0 by chance. It is
    exact: pixels are independent draws given their parts, so counts suffice.

    Args:
        counts: Pixels ``(N, K)`` of each leaf and part.
        ancestors: Node ``(L, N)`` of each leaf at each level.
        wholes: Whole ``(K,)`` of each part.

    Returns:
        The agreement of parts (``a, b`` of one part, ``c`` of another) and of wholes (``a, b`` of
        two parts of one whole, ``c`` of another whole), each the mean over all such choices of
        parts; NaN if there is none.
    """
    share = (counts / counts.sum(0)).T
    joined = np.stack([level[:, None] == level for level in ancestors]).astype(float)
    # within[p, i, l]: a pixel of part p is joined with leaf i at level l or below
    within = np.einsum('pj,lij->pil', share, joined)
    edges = np.concatenate(
        [np.zeros_like(within[..., :1]), within, np.ones_like(within[..., :1])], 2
    )
    first = np.diff(edges, axis=2)
    # what b of part p leaves to c: P(t(a, c) > t(a, b)) + P(equal) / 2, before its part is known
    later = 1 - (edges[..., 1:] + edges[..., :-1]) / 2
    total = later.sum(0)
    parts, whole_terms = [], []
    for p in range(len(share)):
        mine = share[p][:, None]
        if len(share) > 1:
            others = (total - later[p]) / (len(share) - 1)
            parts.append(float((mine * first[p] * others).sum()))
        siblings = np.flatnonzero((wholes == wholes[p]) & (np.arange(len(share)) != p))
        strangers = np.flatnonzero(wholes != wholes[p])
        if len(siblings) and len(strangers):
            near, far = first[siblings].mean(0), later[strangers].mean(0)
            whole_terms.append(float((mine * near * far).sum()))
    return tuple(2 * float(np.mean(x)) - 1 if x else float('nan') for x in (parts, whole_terms))
