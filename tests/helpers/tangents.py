"""Random tangent vectors of the nodes of a tree."""

from __future__ import annotations

import numpy as np


def make_tangents(leaves: int, levels: int, dim: int = 6) -> np.ndarray:
    total = sum(leaves >> level for level in range(levels))
    return np.random.default_rng(2).normal(size=(total, dim))
