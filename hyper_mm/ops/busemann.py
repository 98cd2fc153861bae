r"""Busemann functions and horospheres.

An ideal point is a direction ``p`` of the boundary sphere. Its Busemann function is the distance to
it, less an infinite constant: :math:`B_p(x) = \lim_{t \to \infty} d(x, \gamma_p(t)) - t` along the
ray from the origin, so that :math:`B_p(0) = 0`. Its level sets are the horospheres of ``p``, and
since its gradient has length 1, differences of values are distances between horospheres.

Source: Ghadimi Atigh et al., Hyperbolic Busemann Learning with Ideal Prototypes (NeurIPS 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import poincare
from .inputs import (
    Curvature,
    check_curvature,
    check_sets,
    is_readable,
    per_point,
    takes_formulas,
    upcast,
    wide_sqrt,
    widen,
)
from .stable import signed_asinh, squared_norm, unit

__all__ = [
    'lorentz_busemann',
    'lorentz_horosphere_dist',
    'lorentz_pairwise_busemann',
    'poincare_busemann',
    'poincare_horosphere_dist',
]

_FAR = 1e7
"""Largest ``c |x|^2`` up to which the product has nine digits."""
_PAIRS = 2**22
"""Numbers of float64 at once."""


def lorentz_busemann(x: Tensor, p: Tensor, c: Curvature) -> Tensor:
    r"""Busemann function of points of the hyperboloid, elementwise.

    .. math:: B_p(x) = \tfrac{1}{\sqrt c} \log\!\big(\sqrt c\,(x_0 - p \cdot x)\big)
        = \tfrac{1}{\sqrt c} \Big(\tfrac12 \log q^2 - \operatorname{arsinh}
        \frac{\sqrt c\, p \cdot x}{q}\Big),\qquad q^2 = 1 + c \lVert x_\perp \rVert^2

    with the part of ``x`` across ``p``. The second form, used here, does not cancel toward ``p``.

    Args:
        x: Points ``(..., d)``.
        p: Ideal points ``(..., d)``: vectors of any length above 0, of which the direction counts.
        c: Curvature.

    Returns:
        Values ``(...)``, accumulated in float64 and returned in the inputs' dtype.
    """
    x, p = upcast(x, p)
    dtype, root = x.dtype, wide_sqrt(check_curvature(c, x, p))
    return (_busemann(root * widen(x), unit(widen(p))) / per_point(root)).to(dtype)


def _busemann(x: Tensor, p: Tensor) -> Tensor:
    along = (x * p).sum(-1)
    across = squared_norm(x - along.unsqueeze(-1) * p)
    return across.log1p() / 2 - signed_asinh(along / (1 + across).sqrt())


def lorentz_pairwise_busemann(x: Tensor, p: Tensor, c: Curvature) -> Tensor:
    """Busemann functions of all points and all ideal points, by one matrix product.

    The product leaves ``|x_perp|^2`` an error of ``eps c |x|^2``: points beyond a scaled radius of
    about 9 are computed elementwise, where values can be read (eager code on processors); elsewhere
    they lose digits beyond it.

    Args:
        x: Points ``(..., n, d)``.
        p: Ideal points ``(..., m, d)``.
        c: Curvature: float, 0-dimensional, or ``(..., 1, 1)``.

    Returns:
        Values ``(..., n, m)``, accumulated in float64 and returned in the inputs' dtype.
    """
    x, p = upcast(x, p)
    check_sets(p)
    root = wide_sqrt(check_curvature(c, x, p, shared=True))
    a, q = root * widen(x), unit(widen(p))
    square = squared_norm(a, keepdim=True)
    along = a @ q.mT
    # at least -1/2 for points that are too far for this
    across = (square - along.square()).clamp_min(-0.5)
    value = across.log1p() / 2 - signed_asinh(along / (1 + across).sqrt())
    if is_readable(square) and not takes_formulas(x, p, c) and square.max() > _FAR:
        value = _with_far_points(value, a, q, (square > _FAR).squeeze(-1))
    return (value / root).to(x.dtype)


def _with_far_points(value: Tensor, x: Tensor, p: Tensor, far: Tensor) -> Tensor:
    """Values ``(..., n, m)`` with those of far points ``(..., n)`` in place of the products'."""
    x, p = x.expand(*far.shape, x.shape[-1]), p.expand(*far.shape[:-1], *p.shape[-2:])
    places = far.nonzero().split(max(_PAIRS // max(p.shape[-2] * p.shape[-1], 1), 1))
    for rows in places:
        index = tuple(rows.unbind(1))
        each = _busemann(x[index].unsqueeze(-2), p[index[:-1]] if index[:-1] else p)
        value = value.index_put(index, each)
    return value


def poincare_busemann(x: Tensor, p: Tensor, c: Curvature) -> Tensor:
    r"""Busemann function of points of the ball, elementwise.

    .. math:: B_p(x) = \tfrac{1}{\sqrt c} \log \frac{\lVert p - \sqrt c\, x \rVert^2}
        {1 - c \lVert x \rVert^2}

    Args:
        x: Points of the ball ``(..., d)``.
        p: Ideal points ``(..., d)``: vectors of any length above 0, of which the direction counts.
        c: Curvature.

    Returns:
        Values ``(...)``, accumulated in float64 and returned in the inputs' dtype; NaN outside the
        ball.
    """
    x, p = upcast(x, p)
    dtype, root = x.dtype, wide_sqrt(check_curvature(c, x, p))
    x, p = root * widen(x), unit(widen(p))
    gap = poincare.gap(x).squeeze(-1)
    more = 2 * (x * (x - p)).sum(-1) / gap  # the quotient less 1, exact near the origin
    near = more.abs() < 0.5
    far = squared_norm(p - x) / gap
    value = torch.where(near, torch.where(near, more, 0).log1p(), torch.where(near, 1, far).log())
    return (value / per_point(root)).to(dtype)


def lorentz_horosphere_dist(x: Tensor, p: Tensor, level: float | Tensor, c: Curvature) -> Tensor:
    r"""Signed distance to a horosphere, :math:`B_p(x) - b`: positive outside of its horoball.

    Args:
        x: Points ``(..., d)``.
        p: Ideal points ``(..., d)``, where the horospheres touch the boundary.
        level: Value ``b`` of the Busemann function on the horosphere, its signed distance from the
            origin (negative: the horoball does not hold the origin); broadcast with ``(...)``.
        c: Curvature.

    Returns:
        Distances ``(...)``.
    """
    return lorentz_busemann(x, p, c) - level


def poincare_horosphere_dist(x: Tensor, p: Tensor, level: float | Tensor, c: Curvature) -> Tensor:
    """As :func:`lorentz_horosphere_dist`, of points of the ball.

    Args:
        x: Points of the ball ``(..., d)``.
        p: Ideal points ``(..., d)``.
        level: Value of the Busemann function on the horosphere.
        c: Curvature.

    Returns:
        Distances ``(...)``; NaN outside the ball.
    """
    return poincare_busemann(x, p, c) - level
