"""The formulas of :mod:`hyper_mm.ops.fused`, for automatic differentiation.

Compiled code takes them: a compiler fuses them itself, and `torch.compile` (2.11) loses, without a
word, the gradients of functions that write in place. Arguments and results are those of the
functions of the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..deprecation import renamed_attributes
from . import lorentz
from .inputs import Curvature


def to_ambient(x: Tensor, c: Curvature) -> Tensor:
    """Ambient points, time first."""
    return torch.cat([lorentz.time(x, c, keepdim=True), x], -1)


def gated_ambient(a: Tensor, b: Tensor, c: Curvature) -> Tensor:
    """Ambient points of gated space components."""
    dtype = torch.promote_types(a.dtype, torch.float32)
    return to_ambient(F.silu(a.to(dtype)) * b.to(dtype), c)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm."""
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight


def normalized_sum(
    points: Sequence[Tensor], weights: Sequence[Tensor], c: Curvature, scale: Curvature
) -> Tensor:
    """Weighted sum of points, brought back to the hyperboloid."""
    scales: list[Curvature] = [1.0, *weights]
    times = [lorentz.time(x, c, keepdim=True) for x in points]
    spread: Curvature = 0.0
    for j in range(1, len(points)):
        for i in range(j):
            chord = (points[i] - points[j]).square().sum(-1, keepdim=True)
            chord = chord - (times[i] - times[j]).square()
            spread = spread + scales[i] * scales[j] * chord
    norm = torch.as_tensor(sum(scales) ** 2 + c * spread)
    total = torch.stack([w * x for w, x in zip(scales, points)]).sum(0)
    return total * (scale * norm.abs().clamp_min(1e-6).rsqrt())


class RotationTable(Protocol):
    """Unit complex numbers: a complex tensor, or its parts where complex ones cannot be exported.

    Attributes:
        real: Cosines.
        imag: Sines.
    """

    @property
    def real(self) -> Tensor: ...

    @property
    def imag(self) -> Tensor: ...


def rotate(x: Tensor, table: RotationTable) -> Tensor:
    """Rotates the last pairs of dimensions by unit complex numbers."""
    start = x.shape[-1] - 2 * table.real.shape[-1]
    even, odd = x[..., start:].unflatten(-1, (-1, 2)).unbind(-1)
    turned = [even * table.real - odd * table.imag, even * table.imag + odd * table.real]
    return torch.cat([x[..., :start], torch.stack(turned, -1).flatten(-2)], -1)


def heads(
    x: Tensor,
    c: Curvature,
    table: RotationTable | None,
    factor: Tensor | None,
    center: str | None,
    width: int,
) -> tuple[Tensor, Tensor | None]:
    """Queries, keys or values of Lorentzian attention."""
    x = x if table is None else rotate(x, table)
    time = lorentz.time(x, c, keepdim=True)
    if factor is not None:
        x, time = x * factor, time * -factor
    out = F.pad(torch.cat([time, x], -1), (0, width - x.shape[-1] - 1))
    if center is None:
        return out, None
    middle = (out.mean(1, keepdim=True) if center == 'mean' else out[:, :1]).detach()
    return out - middle, middle


def normalize(u: Tensor, middle: Tensor | None, c: Curvature) -> Tensor:
    """Means of points, brought back to the hyperboloid."""
    u = u if middle is None else u + middle
    radius = torch.linalg.vector_norm(u[..., 1:], dim=-1, keepdim=True)
    norm = c * (u[..., :1] - radius) * (u[..., :1] + radius)
    return u * norm.clamp_min(0.5).rsqrt()


__getattr__ = renamed_attributes(
    __name__,
    lift='hyper_mm.ops.unfused.to_ambient',
    gated_lift='hyper_mm.ops.unfused.gated_ambient',
    normalise='hyper_mm.ops.unfused.normalize',
    normalised_sum='hyper_mm.ops.unfused.normalized_sum',
)
