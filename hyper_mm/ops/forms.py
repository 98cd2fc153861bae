r"""The elementwise maps of both models as :class:`hyper_mm.ops.rows.Form`.

Factors are functions of scalar products ``(n,)`` in float64 and of ``c``. With a second point ``y``
they take the difference ``D = y - x``, which is exact, and so points close to each other keep their
digits. Letters name the products of :math:`\sqrt c` times the points: ``X`` is :math:`c \lVert x
\rVert^2`, ``XD`` is :math:`c\, x \cdot D`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .rows import Form
from .stable import Curvature, chord_to_distance, shares, sinhc, sqrt

_FAR = 2.0**16
"""Largest ``c |x|^2`` (radius 6.2) up to which products in float64 have ten digits of a factor."""
_GAP = 2.0**-8
"""Least ``1 - c |x|^2`` of the ball for the same."""
_LONG = 9e4
"""Square of the longest scaled vector whose hyperbolic functions can be squared."""


def _near(square: Tensor, limit: float = _FAR) -> bool:
    return square.max().item() <= limit  # False for NaN


def _root(square: Tensor) -> Tensor:
    """Square root whose gradient at 0 is finite, where that of the square is 0."""
    return square.clamp_min(1e-300).sqrt()


def _gap(square: Tensor) -> Tensor:
    value = 1 - square
    return torch.where(value > 0, value, torch.nan)


# The hyperboloid


def _times(X: Tensor, XD: Tensor, DD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Times of both points, and the difference of the times, of curvature -1."""
    x0, y0 = (1 + X).sqrt(), (1 + X + 2 * XD + DD).sqrt()
    return x0, y0, (2 * XD + DD) / (x0 + y0)


def _chord(X: Tensor, XD: Tensor, DD: Tensor) -> Tensor:
    return DD - _times(X, XD, DD)[2].square()


def _both_near(xx: Tensor, xd: Tensor, dd: Tensor, *rest) -> bool:
    c = rest[-1]
    return _near(c * xx) and _near(c * (xx + 2 * xd + dd))


def _lorentz_expmap(xx: Tensor, xv: Tensor, vv: Tensor, c: Curvature) -> tuple[Tensor, Tensor]:
    r = _root(c * vv - (c * xv).square() / (1 + c * xx))
    return r.cosh(), sinhc(r)


LORENTZ_EXPMAP = Form(
    ((1, 0), (0, 1)),
    ((0, 0), (0, 1), (1, 1)),
    _lorentz_expmap,
    (0, 1),
    lambda xx, xv, vv, c: _near(c * xx) and _near(c * vv, _LONG),
)


def _lorentz_logmap(xx: Tensor, xd: Tensor, dd: Tensor, c: Curvature) -> tuple[Tensor, Tensor]:
    r = chord_to_distance(_chord(c * xx, c * xd, c * dd))
    return -r * torch.tanh(r / 2), 1 / sinhc(r)


_PAIR = ((1, 0), (-1, 1))
_PRODUCTS = ((0, 0), (0, 1), (1, 1))
LORENTZ_LOGMAP = Form(_PAIR, _PRODUCTS, _lorentz_logmap, (0, 1), _both_near)


def _lorentz_dist(xx: Tensor, xd: Tensor, dd: Tensor, c: Curvature) -> tuple[Tensor]:
    return (chord_to_distance(_chord(c * xx, c * xd, c * dd)) / sqrt(c),)


LORENTZ_DIST = Form(_PAIR, _PRODUCTS, _lorentz_dist, (), _both_near)


def lorentz_geodesic(t: float) -> Form:
    """The part ``t`` of a geodesic."""

    def factors(xx: Tensor, xd: Tensor, dd: Tensor, c: Curvature) -> tuple[Tensor, Tensor]:
        start, end = shares(chord_to_distance(_chord(c * xx, c * xd, c * dd)), t)
        return start + end, end

    return Form(_PAIR, _PRODUCTS, factors, (0, 1), _both_near)


def _lorentz_transport(
    xx: Tensor, xd: Tensor, dd: Tensor, xv: Tensor, dv: Tensor, c: Curvature
) -> tuple[Tensor, Tensor, float]:
    x0, _, lead = _times(c * xx, c * xd, c * dd)
    product = c * dv - lead * (c * xv) / x0  # c <y - x, v>
    factor = product / (2 + (c * dd - lead.square()) / 2)
    return 2 * factor, factor, 1.0


LORENTZ_TRANSPORT = Form(
    ((1, 0, 0), (-1, 1, 0), (0, 0, 1)),
    ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2)),
    _lorentz_transport,
    (0, 1, 2),
    _both_near,
)


def _lorentz_transport_to0(xx: Tensor, xv: Tensor, c: Curvature) -> tuple[Tensor, float]:
    x0 = (1 + c * xx).sqrt()
    return -c * xv / (x0 * (1 + x0)), 1.0


LORENTZ_TRANSPORT_TO0 = Form(
    ((1, 0), (0, 1)),
    ((0, 0), (0, 1)),
    _lorentz_transport_to0,
    (0, 1),
    lambda xx, xv, c: _near(c * xx),
)


# The ball


def _mobius_add(xx: Tensor, xy: Tensor, yy: Tensor, c: Curvature) -> tuple[Tensor, Tensor]:
    X, XY, Y = c * xx, 2 * c * xy, c * yy
    whole = 1 + XY + X * Y
    return (1 + XY + Y) / whole, (1 - X) / whole


MOBIUS_ADD = Form(((1, 0), (0, 1)), ((0, 0), (0, 1), (1, 1)), _mobius_add, (0, 1))


def _ball_distance(xx: Tensor, yy: Tensor, dd: Tensor, c: Curvature) -> Tensor:
    """Scaled distance."""
    return chord_to_distance(4 * (c * dd) / (_gap(c * xx) * _gap(c * yy)))


_BALL = ((1, 0), (0, 1), (-1, 1))
_BALL_PRODUCTS = ((0, 0), (1, 1), (2, 2))
POINCARE_DIST = Form(
    _BALL, _BALL_PRODUCTS, lambda xx, yy, dd, c: (_ball_distance(xx, yy, dd, c) / sqrt(c),)
)


def _poincare_logmap(xx: Tensor, yy: Tensor, dd: Tensor, c: Curvature) -> tuple[Tensor, Tensor]:
    whole = _gap(c * yy) * sinhc(_ball_distance(xx, yy, dd, c))
    return -c * dd / whole, _gap(c * xx) / whole


POINCARE_LOGMAP = Form(_BALL, _BALL_PRODUCTS, _poincare_logmap, (0, 2))


def poincare_geodesic(t: float) -> Form:
    """The part ``t`` of a geodesic of the ball."""

    def factors(xx: Tensor, yy: Tensor, dd: Tensor, c: Curvature) -> tuple[Tensor, Tensor]:
        gx, gy = _gap(c * xx), _gap(c * yy)
        start, end = shares(_ball_distance(xx, yy, dd, c), t)
        start, end = start / gx, end / gy
        whole = 1 + (2 - gx) * start + (2 - gy) * end
        return 2 * start / whole, 2 * end / whole

    return Form(_BALL, _BALL_PRODUCTS, factors, (0, 1))


def _poincare_expmap(xx: Tensor, xv: Tensor, vv: Tensor, c: Curvature) -> tuple[Tensor, Tensor]:
    rest = _gap(c * xx)
    r = _root(4 * c * vv / rest.square())
    cosh, ratio = r.cosh(), sinhc(r)
    lean = 2 * c * xv / rest * ratio
    whole = rest / 2 + (1 - rest / 2) * cosh + lean
    return (cosh + lean) / whole, ratio / whole


POINCARE_EXPMAP = Form(
    ((1, 0), (0, 1)),
    ((0, 0), (0, 1), (1, 1)),
    _poincare_expmap,
    (0, 1),
    lambda xx, xv, vv, c: (
        _near(c * xx, 1 - _GAP) and _near(4 * c * vv / (1 - c * xx).square(), _LONG)
    ),
)


def _gyration(
    uu: Tensor, vv: Tensor, tt: Tensor, tv: Tensor, tw: Tensor, vw: Tensor, c: Curvature
) -> tuple[Tensor, Tensor]:
    """Factors of ``T = u + v`` and of ``v``."""
    rest, TV, TW, VW = _gap(c * vv), c * tv, c * tw, c * vw
    whole = (rest * _gap(c * uu) + c * tt) / 2
    first = rest * VW - (1 - rest) * TW + 2 * TV * VW
    return first / whole, -(c * tt * VW + rest * TW) / whole


GYRATION = Form(
    ((1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1)),  # u, v, T, w
    ((0, 0), (1, 1), (2, 2), (2, 1), (2, 3), (1, 3)),
    lambda *products: (*_gyration(*products), 1.0),
    (2, 1, 3),
)


def _poincare_transport(
    xx: Tensor, yy: Tensor, dd: Tensor, xd: Tensor, dv: Tensor, xv: Tensor, c: Curvature
) -> tuple[Tensor, Tensor, Tensor]:
    ratio = _gap(c * yy) / _gap(c * xx)
    # the gyration of y and -x, whose sum is D
    total, minus_x = _gyration(yy, xx, dd, -xd, dv, -xv, c)
    return -ratio * minus_x, ratio * total, ratio


POINCARE_TRANSPORT = Form(
    ((1, 0, 0), (0, 1, 0), (-1, 1, 0), (0, 0, 1)),  # x, y, D, v
    ((0, 0), (1, 1), (2, 2), (0, 2), (2, 3), (0, 3)),
    _poincare_transport,
    (0, 2, 3),
)


def _gyroplane_dist(
    xx: Tensor, pp: Tensor, dd: Tensor, da: Tensor, pa: Tensor, aa: Tensor, c: Curvature
) -> tuple[Tensor]:
    root, px = sqrt(c), _gap(c * pp)
    nonzero = aa > 0
    inverse = torch.where(nonzero, torch.where(nonzero, aa, 1).rsqrt(), 0)
    sine = 2 * root * (px * da - c * dd * pa) * inverse / (px * _gap(c * xx))
    return (torch.asinh(sine) / root,)


GYROPLANE_DIST = Form(
    ((1, 0, 0), (0, 1, 0), (1, -1, 0), (0, 0, 1)),  # x, p, x - p, a
    ((0, 0), (1, 1), (2, 2), (2, 3), (1, 3), (3, 3)),
    _gyroplane_dist,
)
