"""Geometry of a few points without gradients, in as few calls of operations as possible.

Where a language model adds a token to what it has written, operations have a handful of numbers
each, and their calls are what takes the time. The functions equal those of
:mod:`hyper_mm.ops.fused` of the same purpose. They check nothing: points are in float32 or float64
on a processor, curvatures are floats.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F


@lru_cache(maxsize=1024)
def _number(value: float, dtype: torch.dtype) -> Tensor:
    # an operation of two tensors is twice as fast as one of a tensor and a number
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=dtype)


def number(value: float, like: Tensor) -> Tensor:
    """A number as a 0-dimensional tensor of the dtype of another, which must not be written to."""
    return _number(value, like.dtype)


def norm(x: Tensor) -> Tensor:
    """Norms ``(..., 1)`` of ``(..., d)``."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def time_of(size: Tensor, c: float) -> Tensor:
    """Times of points whose space components have the norms ``size``."""
    return torch.hypot(size, number(c**-0.5, size))


def to_ambient(x: Tensor, c: float) -> Tensor:
    """Ambient points, time first; see :func:`hyper_mm.ops.fused.to_ambient`."""
    return torch.cat([time_of(norm(x), c), x], -1)


def gated_ambient(a: Tensor, b: Tensor, c: float) -> Tensor:
    """Ambient points of gated components; see :func:`hyper_mm.ops.fused.gated_ambient`.

    Args:
        a: Gates ``(..., d)``, which are written over.
        b: Factors ``(..., d)``.
        c: Curvature.
    """
    return to_ambient(F.silu(a, inplace=True).mul_(b), c)


def rms_norm(x: Tensor, size: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm; see :func:`hyper_mm.ops.fused.rms_norm`.

    Args:
        x: ``(..., d)``.
        size: Their norms ``(..., 1)``.
        weight: ``(d,)``.
        eps: Added to the mean square.
    """
    dims = x.shape[-1]
    rate = number(dims**0.5, x) / torch.hypot(size, number((dims * eps) ** 0.5, x))
    return (x * rate).mul_(weight)


def add(x: Tensor, size: Tensor, y: Tensor, weight: float, c: float, scale: float) -> Tensor:
    """The sum ``x + weight y`` of points; see :func:`hyper_mm.ops.fused.normalized_sum`.

    Args:
        x: Points ``(..., d)``.
        size: Norms ``(..., 1)`` of their space components.
        y: Points ``(..., d)``.
        weight: Their weight.
        c: Curvature.
        scale: Factor of the space components of the sum.
    """
    apart, chord = time_of(size, c).sub_(time_of(norm(y), c)), norm(x - y)
    square = chord.mul_(chord).addcmul_(apart, apart, value=-1)
    least = scale**-2
    base, slope = (1 + weight) ** 2 * least, c * weight * least
    square = torch.addcmul(number(base, x), square, number(slope, x)).abs_()
    if weight < 0:
        square.clamp_min_(1e-6 * least)
    return torch.addcmul(x, y, number(weight, x)).mul_(square.rsqrt_())


@lru_cache(maxsize=64)
def _pairs(count: int) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        first, second = torch.triu_indices(count, count, 1)
    return first, second


def centroid(points: Tensor, weights: Tensor, c: float) -> Tensor:
    """Centroids; see :func:`hyper_mm.ops.fused.normalized_sum`.

    Args:
        points: ``(..., n, d)``, n of 2 or more.
        weights: Positive ones, ``(..., n, 1)``.
        c: Curvature.

    Returns:
        Points ``(..., d)``.
    """
    i, j = _pairs(points.shape[-2])
    times = time_of(norm(points), c)  # (..., n, 1)
    apart = times.index_select(-2, i).sub_(times.index_select(-2, j))  # (..., n (n - 1) / 2, 1)
    chord = norm(points.index_select(-2, i).sub_(points.index_select(-2, j)))
    chord = chord.mul_(chord).addcmul_(apart, apart, value=-1)
    both = weights.index_select(-2, i).mul_(weights.index_select(-2, j))
    square = weights.sum(-2).square_().add_((both * chord).sum(-2), alpha=c)
    return (weights * points).sum(-2).mul_(square.abs_().clamp_min_(1e-6).rsqrt_())


def normalize(u: Tensor, c: float) -> Tensor:
    """Means of ambient points, brought back; see :func:`hyper_mm.ops.fused.normalize`.

    Args:
        u: Means ``(..., 1 + d)``, time first.
        c: Curvature.
    """
    time, radius = u[..., :1], norm(u[..., 1:])
    square = (time - radius).mul_(time + radius)
    if c != 1:
        square.mul_(number(c, u))
    return u * torch.maximum(square, number(0.5, u)).rsqrt_()
