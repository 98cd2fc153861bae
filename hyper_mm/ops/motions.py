"""Motions of the hyperboloid: transport along geodesics, translations, and geodesics.

The functions are offered as those of :mod:`hyper_mm.ops.lorentz`; conventions are those of that
module. All of them are accumulated in float64 and returned in the inputs' dtype, and written in
differences of points, so that points close to each other keep their digits far from the origin.
"""

from __future__ import annotations

from torch import Tensor

from . import forms, rows
from .chord import squared_chord
from .inputs import Curvature, check_curvature, upcast, wide_sqrt, widen
from .stable import chord_to_distance, shares, squared_norm, unit

__all__ = ['geodesic', 'translate', 'transport', 'transport_to0']


def _time(x: Tensor) -> Tensor:
    """Time parts ``(..., 1)`` of points of curvature -1."""
    return (squared_norm(x, keepdim=True) + 1).sqrt()


def transport(x: Tensor, y: Tensor, v: Tensor, c: Curvature) -> Tensor:
    r"""Parallel transport of a tangent vector along the geodesic from ``x`` to ``y``.

    .. math:: P_{x \to y}(v) = v + \frac{c\, \langle y - x, v \rangle_{\mathcal L}}
        {1 - c\, \langle x, y \rangle_{\mathcal L}}\, (x + y) \quad\text{(space components)}

    Its inverse is the transport from ``y`` to ``x``.

    Args:
        x: Points ``(..., d)``.
        y: Points ``(..., d)``.
        v: Space components ``(..., d)`` of tangent vectors at ``x``.
        c: Curvature.

    Returns:
        Space components ``(..., d)`` of tangent vectors at ``y``, of unchanged length.
    """
    x, y, v = upcast(x, y, v)
    return rows.run(forms.LORENTZ_TRANSPORT, _transport, check_curvature(c, x, y, v), x, y, v)


def _transport(x: Tensor, y: Tensor, v: Tensor, c: Curvature) -> Tensor:
    dtype, root = x.dtype, wide_sqrt(c)
    x, y, v = root * widen(x), root * widen(y), widen(v)
    x0, y0, difference = _time(x), _time(y), y - x
    lead = (difference * (x + y)).sum(-1, keepdim=True) / (x0 + y0)  # y0 - x0
    v0 = (x * v).sum(-1, keepdim=True) / x0
    product = (difference * v).sum(-1, keepdim=True) - lead * v0  # <y - x, v> = <y, v>
    t = squared_chord(x, y, 1.0).unsqueeze(-1)
    return (v + product / (2 + t / 2) * (x + y)).to(dtype)


def transport_to0(x: Tensor, v: Tensor, c: Curvature) -> Tensor:
    r"""Parallel transport of a tangent vector from ``x`` to the origin.

    .. math:: P_{x \to 0}(v) = v_\perp + \frac{v_\parallel}{\sqrt c\, x_0}

    with ``v`` split along and across ``x``. The inverse of
    :func:`hyper_mm.ops.lorentz.transport0`.

    Args:
        x: Points ``(..., d)``.
        v: Space components ``(..., d)`` of tangent vectors at ``x``.
        c: Curvature.

    Returns:
        Tangent vectors at the origin ``(..., d)``, of unchanged length.
    """
    x, v = upcast(x, v)
    return rows.run(forms.LORENTZ_TRANSPORT_TO0, _transport_to0, check_curvature(c, x, v), x, v)


def _transport_to0(x: Tensor, v: Tensor, c: Curvature) -> Tensor:
    dtype, root = x.dtype, wide_sqrt(c)
    x, v = root * widen(x), widen(v)
    axis = unit(x)
    along = (axis * v).sum(-1, keepdim=True)
    return (v - along * axis + along / _time(x) * axis).to(dtype)


def translate(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    r"""Moves ``y`` by the translation (boost) that takes the origin to ``x``.

    .. math:: T_x(y) = y + \Big(\sqrt c\, y_0 + \frac{c\, x \cdot y}{1 + \sqrt c\, x_0}\Big)\, x
        \quad\text{(space components)}

    An isometry; the Moebius addition of the ball in coordinates of the hyperboloid. Its inverse is
    the translation by ``-x``.

    Args:
        x: Points ``(..., d)``.
        y: Points ``(..., d)``, broadcast with ``x``.
        c: Curvature.

    Returns:
        Points ``(..., d)``.
    """
    x, y = upcast(x, y)
    dtype, root = x.dtype, wide_sqrt(check_curvature(c, x, y))
    x, y = root * widen(x), root * widen(y)
    total, x0, y0 = x + y, _time(x), _time(y)
    lead = (total * (y - x)).sum(-1, keepdim=True) / (x0 + y0)  # y0 - x0
    factor = lead + (x * total).sum(-1, keepdim=True) / (1 + x0)
    return ((total + factor * x) / root).to(dtype)


def geodesic(x: Tensor, y: Tensor, t: float | Tensor, c: Curvature) -> Tensor:
    r"""Point at the part ``t`` of the geodesic from ``x`` to ``y``.

    .. math:: \gamma(t) = \frac{\sinh((1 - t)\, r)\, x + \sinh(t\, r)\, y}{\sinh r},
        \qquad r = \sqrt c\, d(x, y)

    Args:
        x: Points ``(..., d)``, where ``t`` is 0.
        y: Points ``(..., d)``, broadcast with ``x``, where ``t`` is 1.
        t: Parts: a number, or a tensor that broadcasts with one number a pair ``(...)``; those
            outside [0, 1] prolong the geodesic.
        c: Curvature.

    Returns:
        Points ``(..., d)``.
    """
    x, y = upcast(x, y)
    check_curvature(c, x, y)
    if isinstance(t, (int, float)) and not isinstance(t, bool):
        form = forms.lorentz_geodesic(t)
        return rows.run(form, lambda x, y, c: _geodesic(x, y, t, c), c, x, y)
    return _geodesic(x, y, t, c)


def _geodesic(x: Tensor, y: Tensor, t: float | Tensor, c: Curvature) -> Tensor:
    dtype, root = x.dtype, wide_sqrt(c)
    x, y = widen(x), widen(y)
    r = chord_to_distance(squared_chord(x, y, root))
    start, end = (part.unsqueeze(-1) for part in shares(r, t))
    return (start * x + end * y).to(dtype)
