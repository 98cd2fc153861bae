r"""The elementwise maps of both models as :class:`hyper_mm.ops.rows.Form`.

Factors are functions of scalar products ``(n,)`` in float64 and of ``c``. With a second point ``y``
they take the difference ``D = y - x``, which is exact, and so points close to each other keep their
digits. Letters name the products of :math:`\sqrt c` times the points: ``X`` is :math:`c \lVert x
\rVert^2`, ``XD`` is :math:`c\, x \cdot D`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import Function

from .inputs import Curvature, sqrt
from .rows import Form
from .stable import chord_to_distance, shares, sinhc

_FAR = 2.0**16
"""Largest ``c |x|^2`` (radius 6.2) up to which products in float64 have ten digits of a factor."""
_GAP = 2.0**-8
"""Least ``1 - c |x|^2`` of the ball for the same."""
_EASY_TIME, _EASY_CHORD, _EASY_GAP, _EASY_SUM = 16.0, 0.75, 0.125, 1 / 3
"""Largest time, largest part of a squared difference that the one of times is, least differences
from 1, and least part of squared lengths that the one of a sum is, up to which products of float32
numbers have seven digits of a factor."""
_LONG = 9e4
"""Square of the longest scaled vector whose hyperbolic functions can be squared."""


def _near(square: Tensor, limit: float = _FAR) -> bool:
    return square.max().item() <= limit  # False for NaN


def _root(square: Tensor) -> Tensor:
    """Square root whose gradient at 0 is finite, where that of the square is 0."""
    return square.clamp_min(1e-300).sqrt()


def _inside(*squares: Tensor, gap: float = 1e-15) -> bool:
    """Whether points of the ball are inside it, by a least ``1 - c |x|^2``."""
    return all(_near(square, 1 - gap) for square in squares)


class _ChordRatio(Function):
    """``q(t) = r / sinh(r)`` of a distance ``r`` and its squared chord ``t``; 1 at 0.

    ``q' = (1 - q cosh(r)) / (2 sinh(r)^2)``, once; see
    :func:`hyper_mm.ops.stable.chord_to_distance`.
    """

    @staticmethod
    def forward(ctx, t: Tensor) -> Tensor:
        sine = (t * (t + 4)).sqrt_().mul_(0.5)
        q = torch.add(sine, t, alpha=0.5).log1p_().div_(sine)
        q.masked_fill_(t == 0, 1)
        ctx.save_for_backward(t, q)
        return q

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        t, q = ctx.saved_tensors
        slope = (1 - torch.addcmul(q, q, t, value=0.5)).div_(t * (t + 4)).mul_(2)
        series = t * (1 / 15 - t / 70) - 1 / 6
        return torch.where(t < 1e-4, series, slope) * grad


# The hyperboloid


def _times(X: Tensor, XD: Tensor, DD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Times of both points, and the difference of the times, of curvature -1."""
    more, whole = torch.add(DD, XD, alpha=2), 1 + X
    x0, y0 = whole.sqrt(), (whole + more).sqrt()
    return x0, y0, more / (x0 + y0)


def _chord(X: Tensor, XD: Tensor, DD: Tensor) -> Tensor:
    lead = _times(X, XD, DD)[2]
    return torch.addcmul(DD, lead, lead, value=-1)


def _both_near(xx: Tensor, xd: Tensor, dd: Tensor, *rest) -> bool:
    c = rest[-1]
    return _near(c * xx) and _near(c * (xx + 2 * xd + dd))


def _easy_pair(xx: Tensor, xd: Tensor, dd: Tensor, c: Curvature) -> bool:
    """Where neither point is far and the chord is no small part of the difference."""
    X, XD, DD = c * xx, c * xd, c * dd
    x0, y0, lead = _times(X, XD, DD)
    return (
        _near(x0, _EASY_TIME)
        and _near(y0, _EASY_TIME)
        and _near(torch.addcmul(DD * -_EASY_CHORD, lead, lead), 0.0)
    )


def _lorentz_expmap(xx: Tensor, xv: Tensor, vv: Tensor, c: Curvature) -> tuple[Tensor, Tensor]:
    r = _root(c * vv - (c * xv).square() / (1 + c * xx))
    return r.cosh(), sinhc(r)


def _lorentz_expmap_pull(
    xx: Tensor, xv: Tensor, vv: Tensor, c: Curvature, pull_x: Tensor, pull_v: Tensor
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    lean = c * xv / (1 + c * xx)  # over the time of x: that of v
    s = torch.addcmul(vv, lean, xv, value=-1).mul_(c).clamp_min_(1e-300)  # r^2
    r = s.sqrt()
    cosh, ratio = r.cosh(), r.sinh() / r
    series = 1 / 6 + s * (1 / 60 + s * (1 / 1680 + s / 90720))
    slope = torch.where(s < 1e-2, series, (cosh - ratio) / (2 * s))  # of the ratio
    pull = torch.addcmul(pull_v * slope, pull_x, ratio, value=0.5).mul_(c)  # of s, times c
    return (cosh, ratio), (pull * lean.square(), pull * lean * -2, pull)


LORENTZ_EXPMAP = Form(
    ((1, 0), (0, 1)),
    ((0, 0), (0, 1), (1, 1)),
    _lorentz_expmap,
    (0, 1),
    lambda xx, xv, vv, c: _near(c * xx) and _near(c * vv, _LONG),
    pull=_lorentz_expmap_pull,
)


def _lorentz_logmap(xx: Tensor, xd: Tensor, dd: Tensor, c: Curvature) -> tuple[Tensor, Tensor]:
    t = _chord(c * xx, c * xd, c * dd)
    q = _ChordRatio.apply(t)
    return q * t * -0.5, q  # r tanh(r / 2) = q t / 2


_PAIR = ((1, 0), (-1, 1))
_PRODUCTS = ((0, 0), (0, 1), (1, 1))
LORENTZ_LOGMAP = Form(_PAIR, _PRODUCTS, _lorentz_logmap, (0, 1), _both_near, _easy_pair)


def _lorentz_dist(xx: Tensor, xd: Tensor, dd: Tensor, c: Curvature) -> tuple[Tensor]:
    return (chord_to_distance(_chord(c * xx, c * xd, c * dd)) / sqrt(c),)


_NONE: tuple[Tensor, ...] = ()


def _lorentz_dist_pull(
    xx: Tensor, xd: Tensor, dd: Tensor, c: Curvature, pull: Tensor
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    X, XD, DD = c * xx, c * xd, c * dd
    x0, y0, lead = _times(X, XD, DD)
    slope, lean = _slope(torch.addcmul(DD, lead, lead, value=-1), c) * pull, lead / y0
    return _NONE, (lean * lead / x0 * slope, lean * slope * -2, (1 - lean) * slope)


def _slope(t: Tensor, c: Curvature) -> Tensor:
    """Derivative of a distance by the squared chord ``t / c``; 0 at 0."""
    return (t * (t + 4)).rsqrt_().mul_(sqrt(c)).masked_fill_(t == 0, 0)


LORENTZ_DIST = Form(_PAIR, _PRODUCTS, _lorentz_dist, (), _both_near, _easy_pair, _lorentz_dist_pull)


def lorentz_geodesic(t: float) -> Form:
    """The part ``t`` of a geodesic."""

    def factors(xx: Tensor, xd: Tensor, dd: Tensor, c: Curvature) -> tuple[Tensor, Tensor]:
        start, end = shares(chord_to_distance(_chord(c * xx, c * xd, c * dd)), t)
        return start + end, end

    return Form(_PAIR, _PRODUCTS, factors, (0, 1), _both_near)


def _lorentz_transport(
    xx: Tensor, xd: Tensor, dd: Tensor, xv: Tensor, dv: Tensor, c: Curvature
) -> tuple[Tensor, Tensor]:
    x0, _, lead = _times(c * xx, c * xd, c * dd)
    product = c * dv - lead * (c * xv) / x0  # c <y - x, v>
    factor = product / (2 + (c * dd - lead.square()) / 2)
    return 2 * factor, factor


LORENTZ_TRANSPORT = Form(
    ((1, 0, 0), (-1, 1, 0), (0, 0, 1)),
    ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2)),
    _lorentz_transport,
    (0, 1),
    _both_near,
    plus=2,
)


def _lorentz_transport_to0(xx: Tensor, xv: Tensor, c: Curvature) -> tuple[Tensor]:
    x0 = (1 + c * xx).sqrt()
    return (-c * xv / (x0 * (1 + x0)),)


LORENTZ_TRANSPORT_TO0 = Form(
    ((1, 0), (0, 1)),
    ((0, 0), (0, 1)),
    _lorentz_transport_to0,
    (0,),
    lambda xx, xv, c: _near(c * xx),
    plus=1,
)


# The ball


def _mobius_add(xx: Tensor, yy: Tensor, ss: Tensor, c: Curvature) -> tuple[Tensor, Tensor]:
    gx, S = 1 - c * xx, c * ss
    whole = torch.addcmul(S, gx, 1 - c * yy)
    return S / whole, gx / whole


def _easy_mobius(xx: Tensor, yy: Tensor, ss: Tensor, c: Curvature) -> bool:
    """Inside the ball nothing cancels: squares are exact, and so are their differences from 1."""
    return _inside(c * xx, c * yy)


def _mobius_pull(
    xx: Tensor, yy: Tensor, ss: Tensor, c: Curvature, pull_x: Tensor, pull_s: Tensor
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    gx, gy, S = 1 - c * xx, 1 - c * yy, c * ss
    inverse = torch.addcmul(S, gx, gy).reciprocal_()
    a, b = S * inverse, gx * inverse
    one, two = pull_x * inverse, pull_s * inverse
    lean = torch.addcmul(a * one, b, two)
    return (a, b), (
        torch.addcmul(-two, lean, gy).mul_(c),
        (lean * gx).mul_(c),
        (one - lean).mul_(c),
    )


MOBIUS_ADD = Form(
    ((1, 0), (0, 1), (1, 1)),
    ((0, 0), (1, 1), (2, 2)),
    _mobius_add,
    (0, 2),
    easy=_easy_mobius,
    pull=_mobius_pull,
)


def _ball_chord(xx: Tensor, yy: Tensor, dd: Tensor, c: Curvature) -> Tensor:
    """Squared chord of the points on the hyperboloid of curvature -1."""
    return 4 * c * dd / ((1 - c * xx) * (1 - c * yy))


def _easy_ball(xx: Tensor, yy: Tensor, dd: Tensor, c: Curvature) -> bool:
    return _inside(c * xx, c * yy, gap=_EASY_GAP)


def _ball_limits(xx: Tensor, yy: Tensor, dd: Tensor, c: Curvature) -> bool:
    return _inside(c * xx, c * yy)


def _poincare_dist(xx: Tensor, yy: Tensor, dd: Tensor, c: Curvature) -> tuple[Tensor]:
    return (chord_to_distance(_ball_chord(xx, yy, dd, c)) / sqrt(c),)


def _poincare_dist_pull(
    xx: Tensor, yy: Tensor, dd: Tensor, c: Curvature, pull: Tensor
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    gx, gy = 1 - c * xx, 1 - c * yy
    whole = 4 / (gx * gy)
    t = c * dd * whole
    slope = _slope(t, c) * pull
    lean = t * slope
    return _NONE, (lean / gx, lean / gy, whole * slope)


_BALL = ((1, 0), (0, 1), (-1, 1))
_BALL_PRODUCTS = ((0, 0), (1, 1), (2, 2))
POINCARE_DIST = Form(
    _BALL, _BALL_PRODUCTS, _poincare_dist, (), _ball_limits, _easy_ball, _poincare_dist_pull
)


def _poincare_logmap(xx: Tensor, yy: Tensor, dd: Tensor, c: Curvature) -> tuple[Tensor, Tensor]:
    gx, gy = 1 - c * xx, 1 - c * yy
    share = _ChordRatio.apply(4 * c * dd / (gx * gy)) / gy
    return -c * dd * share, gx * share


POINCARE_LOGMAP = Form(_BALL, _BALL_PRODUCTS, _poincare_logmap, (0, 2), _ball_limits, _easy_ball)


def poincare_geodesic(t: float) -> Form:
    """The part ``t`` of a geodesic of the ball."""

    def factors(xx: Tensor, yy: Tensor, dd: Tensor, c: Curvature) -> tuple[Tensor, Tensor]:
        gx, gy = 1 - c * xx, 1 - c * yy
        start, end = shares(chord_to_distance(4 * c * dd / (gx * gy)), t)
        start, end = start / gx, end / gy
        whole = 1 + (2 - gx) * start + (2 - gy) * end
        return 2 * start / whole, 2 * end / whole

    def easy(xx: Tensor, yy: Tensor, dd: Tensor, c: Curvature) -> bool:
        """Between points of which the sum is no small difference either."""
        against = dd - xx - yy - 2 * (1 - _EASY_SUM) * (xx * yy).sqrt()
        return 0 <= t <= 1 and _easy_ball(xx, yy, dd, c) and _near(against, 0.0)

    return Form(_BALL, _BALL_PRODUCTS, factors, (0, 1), _ball_limits, easy)


def _poincare_expmap(xx: Tensor, xv: Tensor, vv: Tensor, c: Curvature) -> tuple[Tensor, Tensor]:
    rest = 1 - c * xx
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
    uu: Tensor, uv: Tensor, vv: Tensor, uw: Tensor, vw: Tensor, c: Curvature
) -> tuple[Tensor, Tensor]:
    """Factors of ``u`` and of ``v``; with ``T = u + v`` in place of differences."""
    U, UV, V, UW, VW = c * uu, c * uv, c * vv, c * uw, c * vw
    rest, TT, TV, TW = 1 - V, U + 2 * UV + V, UV + V, UW + VW
    whole = (rest * (1 - U) + TT) / 2
    first = rest * VW - V * TW + 2 * TV * VW
    return first / whole, (first - TT * VW - rest * TW) / whole


def _gyration_pull(
    uu: Tensor,
    uv: Tensor,
    vv: Tensor,
    uw: Tensor,
    vw: Tensor,
    c: Curvature,
    pull_u: Tensor,
    pull_v: Tensor,
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    U, UV, V, UW, VW = c * uu, c * uv, c * vv, c * uw, c * vw
    rest, other, TV, TW = 1 - V, 1 - U, UV + V, UW + VW
    TT = U + UV + TV
    whole = torch.addcmul(TT, rest, other).mul_(0.5)
    first = torch.addcmul(rest * VW, V, TW, value=-1).addcmul_(TV, VW, value=2)
    second = torch.addcmul(first, TT, VW, value=-1).addcmul_(rest, TW, value=-1)
    of_u, of_v = first / whole, second / whole
    both, last = (pull_u + pull_v) * c / whole, pull_v * c / whole  # of first and second, times c
    half = (
        torch.addcmul(of_u * pull_u, of_v, pull_v).mul_(c).mul_(-0.5).div_(whole)
    )  # of whole, half
    of_rest = torch.addcmul(both * VW, last, TW, value=-1).addcmul_(half, other)
    of_tt, of_tv = torch.addcmul(half, last, VW, value=-1), both * VW * 2
    of_tw = torch.addcmul(both * V, last, rest).neg_()
    of_vw = torch.addcmul(both * rest, both, TV, value=2).addcmul_(last, TT, value=-1)
    return (of_u, of_v), (
        torch.addcmul(of_tt, half, rest, value=-1),
        torch.add(of_tv, of_tt, alpha=2),
        torch.addcmul(of_tt + of_tv - of_rest, both, TW, value=-1),
        of_tw,
        of_vw + of_tw,
    )


def _easy_gyration(
    uu: Tensor, uv: Tensor, vv: Tensor, uw: Tensor, vw: Tensor, c: Curvature
) -> bool:
    """Where ``u + v`` is no small difference, and neither point is near the boundary."""
    U, V = c * uu, c * vv
    both = U + V
    apart = both * (_EASY_SUM - 1) - 2 * c * uv  # negative where |u + v|^2 is a large part
    return _inside(U, V, gap=_EASY_GAP) and _near(apart, 0.0)


GYRATION = Form(
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2)),
    _gyration,
    (0, 1),
    lambda uu, uv, vv, uw, vw, c: _inside(c * uu, c * vv, gap=_GAP),
    _easy_gyration,
    _gyration_pull,
    plus=2,
)


def _poincare_transport(
    xx: Tensor, xy: Tensor, yy: Tensor, xv: Tensor, yv: Tensor, c: Curvature
) -> tuple[Tensor, Tensor, Tensor]:
    ratio = (1 - c * yy) / (1 - c * xx)
    of_y, of_x = _gyration(yy, -xy, xx, yv, -xv, c)  # of y and -x
    return -ratio * of_x, ratio * of_y, ratio


POINCARE_TRANSPORT = Form(
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2)),
    _poincare_transport,
    (0, 1, 2),
    lambda xx, xy, yy, xv, yv, c: _inside(c * xx, c * yy, gap=_GAP),
    lambda xx, xy, yy, xv, yv, c: _easy_gyration(xx, -xy, yy, xv, yv, c),
)


def _gyroplane_sine(
    xx: Tensor, xp: Tensor, pp: Tensor, xa: Tensor, pa: Tensor, aa: Tensor, c: Curvature
) -> tuple[Tensor, ...]:
    """The sine, its factor of the product with ``a``, ``c |x - p|^2 / (1 - c pp)``, gaps, ..."""
    px, gap, nonzero = 1 - c * pp, 1 - c * xx, aa > 0
    inverse = torch.where(nonzero, torch.where(nonzero, aa, 1).rsqrt(), 0)
    # x - p in products: what they lose is a small part of |x - p|, and so of the sine
    lean = c * torch.add(xx + pp, xp, alpha=-2) / px
    factor = inverse / gap * (2 * sqrt(c))
    return torch.addcmul(xa - pa, lean, pa, value=-1) * factor, factor, lean, gap, px, inverse


def _gyroplane_dist(*products_and_c) -> tuple[Tensor]:
    sine = _gyroplane_sine(*products_and_c)[0]
    return (torch.asinh(sine) / sqrt(products_and_c[-1]),)


def _gyroplane_pull(
    xx: Tensor,
    xp: Tensor,
    pp: Tensor,
    xa: Tensor,
    pa: Tensor,
    aa: Tensor,
    c: Curvature,
    pull: Tensor,
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    sine, factor, lean, gap, px, inverse = _gyroplane_sine(xx, xp, pp, xa, pa, aa, c)
    slope = pull / (torch.addcmul(torch.ones_like(sine), sine, sine).sqrt_() * sqrt(c))
    of_xa, whole = slope * factor, slope * sine
    of_dd = of_xa * pa / px * -c
    return _NONE, (
        torch.add(of_dd, whole / gap * c),
        of_dd * -2,
        torch.addcmul(of_dd, of_dd, lean),
        of_xa,
        torch.addcmul(of_xa, of_xa, lean).neg_(),
        whole * inverse.square() * -0.5,
    )


GYROPLANE_DIST = Form(
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)),
    _gyroplane_dist,
    limits=lambda xx, xp, pp, xa, pa, aa, c: _inside(c * xx, c * pp, gap=_GAP),
    pull=_gyroplane_pull,
)
