r"""The Poincare ball model of hyperbolic space.

Curvature ``-c`` with ``c > 0``, the same convention and the same space as
:mod:`hyper_mm.ops.lorentz`: points are those of the ball :math:`c \lVert x \rVert^2 < 1`, with
distance
:math:`d(x, y) = \tfrac{2}{\sqrt c} \operatorname{artanh}(\sqrt c \lVert -x \oplus y \rVert)`.
The exponential map at the origin is the usual one of the ball (:math:`\tanh(r)/r\, v`), so that
``d(0, expmap0(v)) = 2 |v|``.

Nothing is projected or clamped implicitly: points on or outside the boundary
(``c |x|^2 >= 1``, which float32 reaches at ``sqrt(c) |v| = 9``) have no distance: it is NaN.
:func:`project` moves them inside where that is wanted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .chord import finish_pairwise
from .stable import (
    Curvature,
    artanhc,
    check_curvature,
    chord_to_distance,
    per_point,
    safe_norm,
    sqrt,
    squared_norm,
    tanhc,
    upcast,
    wide_sqrt,
    widen,
)

__all__ = [
    'dist',
    'expmap0',
    'logmap0',
    'mobius_add',
    'mobius_matvec',
    'pairwise_dist',
    'project',
    'radius',
    'to_lorentz',
]


def expmap0(v: Tensor, c: Curvature) -> Tensor:
    r"""Exponential map at the origin.

    .. math:: \exp_0(v) = \frac{\tanh(\sqrt c \lVert v \rVert)}{\sqrt c \lVert v \rVert}\, v

    Args:
        v: Tangent vectors at the origin ``(..., d)``.
        c: Curvature.

    Returns:
        Points ``(..., d)`` at distance ``2 |v|`` from the origin.
    """
    (v,) = upcast(v)
    return v * tanhc(sqrt(check_curvature(c, v)) * safe_norm(v, keepdim=True))


def logmap0(x: Tensor, c: Curvature) -> Tensor:
    r"""Logarithmic map at the origin, the inverse of :func:`expmap0`.

    .. math:: \log_0(x) = \frac{\operatorname{artanh}(\sqrt c \lVert x \rVert)}
        {\sqrt c \lVert x \rVert}\, x

    Args:
        x: Points ``(..., d)``.
        c: Curvature.

    Returns:
        Tangent vectors at the origin ``(..., d)``.
    """
    (x,) = upcast(x)
    return x * artanhc(sqrt(check_curvature(c, x)) * safe_norm(x, keepdim=True))


def project(x: Tensor, c: Curvature, eps: float = 1e-3) -> Tensor:
    r"""Limits the norm of points to :math:`(1 - \epsilon) / \sqrt c`.

    Args:
        x: Points ``(..., d)``, inside the ball or not.
        c: Curvature.
        eps: Margin in (0, 1).

    Returns:
        Points ``(..., d)``; those inside the limit are unchanged.
    """
    if not 0 < eps < 1:
        raise ValueError(f'eps must be in (0, 1), got {eps}')
    (x,) = upcast(x)
    scaled = sqrt(check_curvature(c, x)) * safe_norm(x, keepdim=True)
    outside = scaled > 1 - eps
    return torch.where(outside, x * ((1 - eps) / torch.where(outside, scaled, 1)), x)


def mobius_add(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    r"""Moebius addition.

    .. math:: x \oplus y = \frac{(1 + 2c\, x \cdot y + c \lVert y \rVert^2)\, x
        + (1 - c \lVert x \rVert^2)\, y}
        {1 + 2c\, x \cdot y + c^2 \lVert x \rVert^2 \lVert y \rVert^2}

    Args:
        x: Points ``(..., d)``.
        y: Points ``(..., d)``, broadcast with ``x``.
        c: Curvature.

    Returns:
        Points ``(..., d)``, accumulated in float64 and returned in the inputs' dtype: near the
        boundary numerator and denominator cancel.
    """
    x, y = upcast(x, y)
    dtype, c = x.dtype, check_curvature(c, x, y)
    x, y = widen(x), widen(y)
    x2, y2 = c * squared_norm(x, keepdim=True), c * squared_norm(y, keepdim=True)
    xy = 2 * c * (x * y).sum(-1, keepdim=True)
    return (((1 + xy + y2) * x + (1 - x2) * y) / (1 + xy + x2 * y2)).to(dtype)


def mobius_matvec(m: Tensor, x: Tensor, c: Curvature) -> Tensor:
    r"""Moebius matrix-vector product.

    .. math:: M \otimes x = \exp_0(M \log_0(x)) = \tanh\!\Big(\frac{\lVert M x \rVert}
        {\lVert x \rVert} \operatorname{artanh}(\sqrt c \lVert x \rVert)\Big)
        \frac{M x}{\sqrt c \lVert M x \rVert}

    Args:
        m: Matrix ``(k, d)``.
        x: Points ``(..., d)``.
        c: Curvature.

    Returns:
        Points ``(..., k)``; the zero vector, with finite gradients, where ``x`` or ``M x`` is zero.
    """
    m, x = upcast(m, x)
    if m.ndim != 2 or m.shape[1] != x.shape[-1]:
        raise ValueError(f'm must have shape (k, {x.shape[-1]}), got {tuple(m.shape)}')
    with torch.autocast(x.device.type, enabled=False):
        v = logmap0(x, c)
        return expmap0(torch.nn.functional.linear(v, m.to(v.dtype)), c)


def _conformal(x: Tensor, root: Curvature) -> Tensor:
    """``1 - c |x|^2`` for ``root = sqrt(c)``, kept as a column; NaN outside the ball.

    In float64: at the boundary float32 would leave it but a few digits.
    """
    gap = 1 - squared_norm(widen(x) * root, keepdim=True)
    return torch.where(gap > 0, gap, torch.nan).to(x.dtype)


def dist(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    r"""Geodesic distance, elementwise.

    .. math:: d(x, y) = \tfrac{2}{\sqrt c} \operatorname{arsinh}
        \frac{\sqrt c \lVert x - y \rVert}
        {\sqrt{(1 - c \lVert x \rVert^2)(1 - c \lVert y \rVert^2)}}

    Args:
        x: Points ``(..., d)``.
        y: Points ``(..., d)``, broadcast with ``x``.
        c: Curvature.

    Returns:
        Distances ``(...)``; 0 with gradient 0 for coincident points, NaN outside the ball.
    """
    x, y = upcast(x, y)
    root = wide_sqrt(check_curvature(c, x, y))
    t = _squared_chord(x, y, root)
    return (chord_to_distance(t) / per_point(root)).to(x.dtype)


def _squared_chord(x: Tensor, y: Tensor, root: Curvature) -> Tensor:
    """Squared chord on the hyperboloid of curvature -1, for ``root = sqrt(c)``, elementwise."""
    gaps = (_conformal(x, root) * _conformal(y, root)).squeeze(-1)
    return 4 * squared_norm(root * (x - y)) / gaps


def pairwise_dist(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    """Geodesic distances of all pairs, by one matrix product; see :func:`dist`.

    Accumulated in float64 like :func:`hyper_mm.ops.lorentz.pairwise_dist`, with the same rule for
    pairs closer than the rounding of their coordinates.

    Args:
        x: Points ``(..., n, d)``.
        y: Points ``(..., m, d)``.
        c: Curvature: float, 0-dimensional, or ``(..., 1, 1)``.

    Returns:
        Distances ``(..., n, m)``.
    """
    x, y = upcast(x, y)
    root = wide_sqrt(check_curvature(c, x, y, shared=True))
    a, b = widen(x) * root, widen(y) * root
    wa, wb = 4 / _conformal(a, 1.0), 1 / _conformal(b, 1.0)
    a2, b2 = squared_norm(a, keepdim=True), squared_norm(b, keepdim=True)
    # one product computes t = 4 |a - b|^2 / ((1 - |a|^2) (1 - |b|^2))
    t = torch.cat([wa * a2, wa, -2 * wa * a], -1) @ torch.cat([wb, wb * b2, wb * b], -1).mT
    return finish_pairwise(
        t, x, y, a2 * wa.square() / 4, 4 * b2 * wb.square(), _squared_chord, root
    )


def radius(x: Tensor, c: Curvature) -> Tensor:
    r"""Distance from the origin.

    .. math:: d(0, x) = \tfrac{2}{\sqrt c} \operatorname{artanh}(\sqrt c \lVert x \rVert)

    Args:
        x: Points ``(..., d)``.
        c: Curvature.

    Returns:
        Distances ``(...)``.
    """
    (x,) = upcast(x)
    norm = safe_norm(x)
    return 2 * norm * artanhc(per_point(sqrt(check_curvature(c, x))) * norm)


def to_lorentz(x: Tensor, c: Curvature) -> Tensor:
    r"""Isometry to the hyperboloid of the same curvature, :math:`2 x / (1 - c \lVert x \rVert^2)`.

    Args:
        x: Points of the ball ``(..., d)``.
        c: Curvature.

    Returns:
        Space components of points of the hyperboloid ``(..., d)``.
    """
    (x,) = upcast(x)
    return 2 * x / _conformal(x, wide_sqrt(check_curvature(c, x)))
