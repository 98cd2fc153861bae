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

from . import forms, rows
from .all_pairs import Factors, distances
from .inputs import (
    Curvature,
    check_curvature,
    check_sets,
    check_widths,
    per_point,
    sqrt,
    upcast,
    wide_sqrt,
    widen,
)
from .stable import (
    artanhc,
    chord_to_distance,
    radial_tanhc,
    safe_norm,
    shares,
    sinhc,
    squared_norm,
    tanhc,
    unit,
    wide_gap,
)

__all__ = [
    'dist',
    'expmap',
    'expmap0',
    'geodesic',
    'gyration',
    'logmap',
    'logmap0',
    'mobius_add',
    'mobius_matvec',
    'mobius_scalar',
    'pairwise_dist',
    'project',
    'radius',
    'to_lorentz',
    'transport',
    'transport0',
    'transport_to0',
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
    return radial_tanhc(v, check_curvature(c, v))


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
    return x * artanhc(_size(x, c)).to(x.dtype)


def _size(x: Tensor, c: Curvature) -> Tensor:
    """``sqrt(c) |x|`` as a column, in float64: near 1, artanh tells its digits apart."""
    return wide_sqrt(check_curvature(c, x)) * safe_norm(x, keepdim=True, wide=True)


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
        = \frac{c \lVert x + y \rVert^2\, x + (1 - c \lVert x \rVert^2)(x + y)}
        {(1 - c \lVert x \rVert^2)(1 - c \lVert y \rVert^2) + c \lVert x + y \rVert^2}

    The second form, in which nothing cancels inside the ball, is computed.

    Args:
        x: Points ``(..., d)``.
        y: Points ``(..., d)``, broadcast with ``x``.
        c: Curvature.

    Returns:
        Points ``(..., d)``, accumulated in float64 and returned in the inputs' dtype.
    """
    x, y = upcast(x, y)
    return rows.run(forms.MOBIUS_ADD, _mobius_add, check_curvature(c, x, y), x, y)


def _mobius_add(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    dtype = x.dtype
    x, y = widen(x), widen(y)
    both = x + y
    gx, gy = (1 - c * squared_norm(z, keepdim=True) for z in (x, y))
    apart = c * squared_norm(both, keepdim=True)
    return ((apart * x + gx * both) / (gx * gy + apart)).to(dtype)


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
    check_widths(x)
    if m.ndim != 2 or m.shape[1] != x.shape[-1]:
        raise ValueError(f'm must have shape (k, {x.shape[-1]}), got {tuple(m.shape)}')
    with torch.autocast(x.device.type, enabled=False):
        y = torch.nn.functional.linear(x, m)
    ratio = artanhc(_size(x, c))  # of the tangent vector and the point
    return y * (ratio * tanhc(_size(y, c) * ratio)).to(x.dtype)


def mobius_scalar(r: float | Tensor, x: Tensor, c: Curvature) -> Tensor:
    r"""Moebius product of a number and a point.

    .. math:: r \otimes x = \exp_0(r \log_0(x)) = \tanh\!\big(r \operatorname{artanh}
        (\sqrt c \lVert x \rVert)\big) \frac{x}{\sqrt c \lVert x \rVert}

    Args:
        r: Factor of the distance from the origin: a number, or a tensor that broadcasts with one
            number a point ``(...)``.
        x: Points ``(..., d)``.
        c: Curvature.

    Returns:
        Points ``(..., d)``; the origin stays where it is.
    """
    (x,) = upcast(x)
    size = _size(x, c)
    ratio = (r.to(size.dtype).unsqueeze(-1) if isinstance(r, Tensor) else r) * artanhc(size)
    return x * (ratio * tanhc(size * ratio.abs())).to(x.dtype)


def gyration(u: Tensor, v: Tensor, w: Tensor, c: Curvature) -> Tensor:
    r"""Gyration, the rotation by which Moebius addition fails to be associative.

    .. math:: \operatorname{gyr}[u, v]\, w = \ominus(u \oplus v) \oplus (u \oplus (v \oplus w))

    Computed as ``w`` plus terms of ``u + v`` and ``v`` over
    ``(1 - c |u|^2) (1 - c |v|^2) + c |u + v|^2``, in which nothing cancels.

    Args:
        u: Points ``(..., d)``.
        v: Points ``(..., d)``.
        w: Vectors ``(..., d)``, of any length.
        c: Curvature.

    Returns:
        Vectors ``(..., d)`` of the length of ``w``; accumulated in float64 and returned in the
        inputs' dtype. NaN where ``u`` or ``v`` is outside the ball.
    """
    u, v, w = upcast(u, v, w)
    return rows.run(forms.GYRATION, _gyration, check_curvature(c, u, v, w), u, v, w)


def _gyration(u: Tensor, v: Tensor, w: Tensor, c: Curvature) -> Tensor:
    root = wide_sqrt(c)
    return _wide_gyration(root * widen(u), root * widen(v), widen(w)).to(u.dtype)


def _wide_gyration(u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """:func:`gyration` of curvature -1, in the dtype of what it is given."""
    total, rest = u + v, gap(v)
    t2, tw, tv, vw = (
        (a * b).sum(-1, keepdim=True) for a, b in ((total, total), (total, w), (total, v), (v, w))
    )
    first = rest * vw - (1 - rest) * tw + 2 * tv * vw
    second = t2 * vw + rest * tw
    return w + 2 * (first * total - second * v) / (rest * gap(u) + t2)


def gap(x: Tensor, root: Curvature = 1.0) -> Tensor:
    """``1 - c |x|^2`` for ``root = sqrt(c)``, kept as a column; NaN outside the ball.

    Computed in float64: at the boundary float32 would leave it but a few digits.
    """
    return wide_gap(x, root).to(x.dtype)


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
    return rows.run(forms.POINCARE_DIST, _dist, check_curvature(c, x, y), x, y)


def _dist(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    root = wide_sqrt(c)
    t = _squared_chord(x, y, root)
    return (chord_to_distance(t) / per_point(root)).to(x.dtype)


def _squared_chord(x: Tensor, y: Tensor, root: Curvature) -> Tensor:
    """Squared chord on the hyperboloid of curvature -1, for ``root = sqrt(c)``, elementwise."""
    gaps = (gap(x, root) * gap(y, root)).squeeze(-1)
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
    check_sets(x, y)
    root = wide_sqrt(check_curvature(c, x, y, shared=True))
    a, b = widen(x) * root, widen(y) * root
    wa, wb = 4 / gap(a), 1 / gap(b)
    a2, b2 = squared_norm(a, keepdim=True), squared_norm(b, keepdim=True)
    # their product is t = 4 |a - b|^2 / ((1 - |a|^2) (1 - |b|^2))
    left = torch.cat([wa * a2, wa, -2 * wa * a], -1)
    right = torch.cat([wb, wb * b2, wb * b], -1)
    factors = Factors(left, right, a2 * wa.square() / 4, 4 * b2 * wb.square())
    return distances(factors, x, y, _squared_chord, root)


def expmap(x: Tensor, v: Tensor, c: Curvature) -> Tensor:
    r"""Exponential map at ``x``.

    .. math:: \exp_x(v) = x \oplus \tanh\!\Big(\frac{\sqrt c\, \lambda_x \lVert v \rVert}{2}\Big)
        \frac{v}{\sqrt c \lVert v \rVert} = \frac{(\cosh r + \cos\theta\,\xi \sinh r)\, x
        + \tfrac12 (1 - \xi^2) \sinh r\, \hat v / \sqrt c}{\tfrac12 (1 - \xi^2) + \tfrac12
        (1 + \xi^2) \cosh r + \xi \cos\theta \sinh r}

    with :math:`\xi = \sqrt c \lVert x \rVert`, :math:`r = \sqrt c\, \lambda_x \lVert v \rVert` and
    the angle :math:`\theta` of ``x`` and ``v``.

    Args:
        x: Points ``(..., d)``.
        v: Tangent vectors at ``x`` ``(..., d)``, of the length :math:`\lambda_x \lVert v \rVert`.
        c: Curvature.

    Returns:
        Points ``(..., d)`` of the closed ball, accumulated in float64 and returned in the inputs'
        dtype; NaN where ``x`` is outside the ball.
    """
    x, v = upcast(x, v)
    return rows.run(forms.POINCARE_EXPMAP, _expmap, check_curvature(c, x, v), x, v)


def _expmap(x: Tensor, v: Tensor, c: Curvature) -> Tensor:
    dtype, root = x.dtype, wide_sqrt(c)
    x, v = root * widen(x), root * widen(v)
    rest, size = gap(x), safe_norm(x, keepdim=True)
    w = 2 * v / rest
    r = safe_norm(w, keepdim=True)
    # numerator and denominator times exp(-r), a constant: neither overflows
    shift = r.detach()
    grown, shrunk = (r - shift).exp() / 2, (-r - shift).exp() / 2
    cosh, small = grown + shrunk, r < 1
    ratio = sinhc(torch.where(small, r, 0)) * (-shift).exp()
    ratio = torch.where(small, ratio, (grown - shrunk) / torch.where(small, 1, r))  # sinh(r) / r
    lean = (x * w).sum(-1, keepdim=True) * ratio
    a, b = cosh + lean, (1 - rest / 2) * cosh + lean
    # way back from near the boundary: cosh r + cos(theta) sinh r, without a difference
    far, margin = (size > 0.5) & ~small, rest / (1 + size)
    turn = squared_norm(unit(x) + unit(v), keepdim=True) / 2  # 1 + cos(theta)
    back = size * (2 * shrunk + (grown - shrunk) * turn)
    a = torch.where(far, margin * cosh + back, a)
    b = torch.where(far, margin.square() * cosh / 2 + back, b)
    return ((a * x + ratio * v) / (rest * (-shift).exp() / 2 + b) / root).to(dtype)


def logmap(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    r"""Logarithmic map at ``x``, the inverse of :func:`expmap`.

    .. math:: \log_x(y) = \frac{2}{\sqrt c\, \lambda_x} \operatorname{artanh}(\sqrt c \lVert z
        \rVert) \frac{z}{\lVert z \rVert} = \frac{r}{\sinh r}\,
        \frac{(1 - c \lVert x \rVert^2)(y - x) - c \lVert y - x \rVert^2 x}
        {1 - c \lVert y \rVert^2},\qquad z = -x \oplus y,\quad r = \sqrt c\, d(x, y)

    Args:
        x: Points ``(..., d)``.
        y: Points ``(..., d)``, broadcast with ``x``.
        c: Curvature.

    Returns:
        Tangent vectors at ``x`` ``(..., d)``, accumulated in float64 and returned in the inputs'
        dtype; NaN outside the ball.
    """
    x, y = upcast(x, y)
    return rows.run(forms.POINCARE_LOGMAP, _logmap, check_curvature(c, x, y), x, y)


def _logmap(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    dtype, root = x.dtype, wide_sqrt(c)
    x, y = root * widen(x), root * widen(y)
    difference = y - x
    r = chord_to_distance(_squared_chord(x, y, 1.0)).unsqueeze(-1)
    z = gap(x) * difference - squared_norm(difference, keepdim=True) * x
    return (z / (gap(y) * sinhc(r)) / root).to(dtype)


def geodesic(x: Tensor, y: Tensor, t: float | Tensor, c: Curvature) -> Tensor:
    r"""Point at the part ``t`` of the geodesic from ``x`` to ``y``.

    .. math:: \gamma(t) = x \oplus t \otimes (-x \oplus y)

    computed from the sum of points of the hyperboloid, :func:`hyper_mm.ops.lorentz.geodesic`.

    Args:
        x: Points ``(..., d)``, where ``t`` is 0.
        y: Points ``(..., d)``, broadcast with ``x``, where ``t`` is 1.
        t: Parts: a number, or a tensor that broadcasts with one number a pair ``(...)``; those
            outside [0, 1] prolong the geodesic.
        c: Curvature.

    Returns:
        Points ``(..., d)``, accumulated in float64 and returned in the inputs' dtype; NaN outside
        the ball.
    """
    x, y = upcast(x, y)
    check_curvature(c, x, y)
    if isinstance(t, (int, float)) and not isinstance(t, bool):
        form = forms.poincare_geodesic(t)
        return rows.run(form, lambda x, y, c: _geodesic(x, y, t, c), c, x, y)
    return _geodesic(x, y, t, c)


def _geodesic(x: Tensor, y: Tensor, t: float | Tensor, c: Curvature) -> Tensor:
    dtype, root = x.dtype, wide_sqrt(c)
    x, y = root * widen(x), root * widen(y)
    start, end = shares(chord_to_distance(_squared_chord(x, y, 1.0)), t)
    gx, gy = gap(x), gap(y)
    start, end = start.unsqueeze(-1) / gx, end.unsqueeze(-1) / gy
    time = (2 - gx) * start + (2 - gy) * end
    return (2 * (start * x + end * y) / (1 + time) / root).to(dtype)


def transport(x: Tensor, y: Tensor, v: Tensor, c: Curvature) -> Tensor:
    r"""Parallel transport of a tangent vector along the geodesic from ``x`` to ``y``.

    .. math:: P_{x \to y}(v) = \frac{\lambda_x}{\lambda_y} \operatorname{gyr}[y, -x]\, v

    Its inverse is the transport from ``y`` to ``x``.

    Args:
        x: Points ``(..., d)``.
        y: Points ``(..., d)``.
        v: Tangent vectors at ``x`` ``(..., d)``.
        c: Curvature.

    Returns:
        Tangent vectors at ``y`` ``(..., d)``, of the same length :math:`\lambda_y \lVert \cdot
        \rVert`; accumulated in float64 and returned in the inputs' dtype. NaN outside the ball.
    """
    x, y, v = upcast(x, y, v)
    return rows.run(forms.POINCARE_TRANSPORT, _transport, check_curvature(c, x, y, v), x, y, v)


def _transport(x: Tensor, y: Tensor, v: Tensor, c: Curvature) -> Tensor:
    dtype, root = x.dtype, wide_sqrt(c)
    x, y, v = root * widen(x), root * widen(y), widen(v)
    return (_wide_gyration(y, -x, v) * (gap(y) / gap(x))).to(dtype)


def transport0(x: Tensor, v: Tensor, c: Curvature) -> Tensor:
    r"""Parallel transport of a tangent vector from the origin to ``x``.

    .. math:: P_{0 \to x}(v) = (1 - c \lVert x \rVert^2)\, v

    Args:
        x: Points ``(..., d)``.
        v: Tangent vectors at the origin ``(..., d)``.
        c: Curvature.

    Returns:
        Tangent vectors at ``x`` ``(..., d)``; NaN outside the ball.
    """
    x, v = upcast(x, v)
    return v * gap(x, wide_sqrt(check_curvature(c, x, v)))


def transport_to0(x: Tensor, v: Tensor, c: Curvature) -> Tensor:
    r"""Parallel transport of a tangent vector from ``x`` to the origin.

    .. math:: P_{x \to 0}(v) = v / (1 - c \lVert x \rVert^2)

    Args:
        x: Points ``(..., d)``.
        v: Tangent vectors at ``x`` ``(..., d)``.
        c: Curvature.

    Returns:
        Tangent vectors at the origin ``(..., d)``; NaN outside the ball.
    """
    x, v = upcast(x, v)
    return v * (1 / wide_gap(x, wide_sqrt(check_curvature(c, x, v)))).to(v.dtype)


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
    ratio = artanhc(_size(x, c))
    return (2 * safe_norm(x, keepdim=True, wide=True) * ratio).squeeze(-1).to(x.dtype)


def to_lorentz(x: Tensor, c: Curvature) -> Tensor:
    r"""Isometry to the hyperboloid of the same curvature, :math:`2 x / (1 - c \lVert x \rVert^2)`.

    Args:
        x: Points of the ball ``(..., d)``.
        c: Curvature.

    Returns:
        Space components of points of the hyperboloid ``(..., d)``.
    """
    (x,) = upcast(x)
    return x * (2 / wide_gap(x, wide_sqrt(check_curvature(c, x)))).to(x.dtype)
