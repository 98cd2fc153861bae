"""Formulas of the textbooks in 120-digit arithmetic, of curvature -1, on lists of numbers."""

from __future__ import annotations

import mpmath as mp
import torch
from torch import Tensor

DIGITS = 120
dot = mp.fdot


def numbers(x: Tensor) -> list:
    """The numbers of a vector, exactly."""
    return [mp.mpf(value) for value in x.double().tolist()]


def time(x: list):
    return mp.sqrt(1 + dot(x, x))


def norm(x: list):
    return mp.sqrt(dot(x, x))


def mobius_add(x: list, y: list) -> list:
    xy, x2, y2 = dot(x, y), dot(x, x), dot(y, y)
    scale = 1 + 2 * xy + x2 * y2
    return [((1 + 2 * xy + y2) * a + (1 - x2) * b) / scale for a, b in zip(x, y)]


def minus(x: list) -> list:
    return [-a for a in x]


def conformal(x: list):
    return 2 / (1 - dot(x, x))


def ball_expmap(x: list, v: list) -> list:
    size = norm(v)
    return mobius_add(x, [mp.tanh(conformal(x) * size / 2) * a / size for a in v])


def ball_logmap(x: list, y: list) -> list:
    z = mobius_add(minus(x), y)
    return [2 / conformal(x) * mp.atanh(norm(z)) * a / norm(z) for a in z]


def gyration(u: list, v: list, w: list) -> list:
    """Of a vector of any length, by linearity."""
    tiny = mp.mpf(10) ** -40
    w = [tiny * a for a in w]
    turned = mobius_add(minus(mobius_add(u, v)), mobius_add(u, mobius_add(v, w)))
    return [a / tiny for a in turned]


def error(value: Tensor, expected, size=None) -> float:
    """Error of a vector or number, relative to the expected one or to a size."""
    value = numbers(value.reshape(-1))
    expected = expected if isinstance(expected, list) else [expected]
    off = norm([a - b for a, b in zip(value, expected)])
    return float(off / (norm(expected) if size is None else size))


def directions(dtype: torch.dtype, n: int = 6, dim: int = 4) -> list[tuple[Tensor, Tensor]]:
    """Pairs of unit vectors in float64: random ones, then nearly opposite and nearly equal."""
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for k in range(n):
        u, v = torch.randn(2, dim, dtype=torch.float64, generator=generator)
        u = u / u.norm()
        if k >= n - 2:
            v = (-1) ** k * u + 1e-3 * v
        pairs.append((u, v / v.norm()))
    return pairs
