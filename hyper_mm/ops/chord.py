"""Squared chords of the hyperboloid, from which every distance is computed.

The squared chord ``t = |x - y|_L^2 = -2 - 2 <x, y>`` of points scaled to curvature -1 determines
their distance, :func:`hyper_mm.ops.stable.chord_to_distance`. Here it is computed without
cancellation, elementwise, from points or from tangent vectors; for all pairs see
:mod:`hyper_mm.ops.all_pairs`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .inputs import Curvature
from .stable import safe_norm, squared_norm, unit


def squared_chord(x: Tensor, y: Tensor, root: Curvature) -> Tensor:
    """Squared Lorentzian chord of points, scaled to curvature -1, elementwise.

    ``-2 - 2 <x, y>`` as a sum of positive terms, so that nothing cancels. At an obtuse angle of
    ``x`` and ``y`` it is such a sum already, with ``x0 - 1 = |x|^2 / (x0 + 1)``. At an acute one,
    where ``x = (a, p)`` and ``y = (b, -p)`` along and across ``x + y``, it equals
    ``|p|^2 (x0 + y0)^2 / w^2 + (a - b)^2 / w^2`` with
    ``2 w = sqrt(s) + (1 + |p|^2) / sqrt(s)`` and ``s = (x0 + a) (y0 + b)``.

    Args:
        x: Points of the hyperboloid ``(..., d)``.
        y: Points ``(..., d)``, broadcast with ``x``.
        root: ``sqrt(c)``.

    Returns:
        Squared chords ``(...)``.
    """
    difference = root * (x - y)  # before scaling: exact for close points
    x, y = root * x, root * y
    x2, y2, dot = squared_norm(x), squared_norm(y), (x * y).sum(-1)
    x0, y0 = (x2 + 1).sqrt(), (y2 + 1).sqrt()
    # -2 - 2 <x, y> = 2 ((x0 - 1) y0 + (y0 - 1) - x . y): no term is negative where x . y <= 0
    obtuse = 2 * (x2 / (x0 + 1) * y0 + y2 / (y0 + 1) - dot)

    # where x . y > 0 the terms above cancel: components along (a, b) and across (p) x + y
    acute = dot > 0
    total = x + y  # (..., d)
    length = torch.where(acute, safe_norm(total), torch.inf)
    lag, a, b = (difference * total).sum(-1) / length, (x2 + dot) / length, (y2 + dot) / length
    # p is what any of x, y and (x - y) / 2 has across x + y; the shortest rounds the least
    close, first = x2 + y2 - 2 * dot < torch.minimum(x2, y2), x2 < y2
    short = torch.where(first.unsqueeze(-1), x, y)
    short = torch.where(close.unsqueeze(-1), difference / 2, short)
    along = torch.where(close, lag / 2, torch.where(first, a, b))
    p2 = squared_norm(short - (along / length).unsqueeze(-1) * total)
    # lag = a - b; x0 + a and y0 + b are at least 1 here
    w = ((x0 + a) * (y0 + b)).sqrt()
    w = (w + (1 + p2) / w) / 2
    return torch.where(acute, ((x0 + y0) / w).square() * p2 + (lag / w).square(), obtuse)


def squared_chord_tangent0(u: Tensor, v: Tensor, root: Curvature) -> Tensor:
    """Squared chord as of :func:`squared_chord`, from tangent vectors at the origin.

    ``4 sinh^2((ru - rv)/2) + sinh(ru) sinh(rv) |u^ - v^|^2``. ``u - v`` is exact for close vectors
    and both terms follow from it: ``ru - rv`` from the difference of squares, and ``|u^ - v^|``
    from its part across the bisector, times ``2 / (ru + rv)``.

    Args:
        u: Tangent vectors ``(..., d)``.
        v: Tangent vectors ``(..., d)``, broadcast with ``u``.
        root: ``sqrt(c)``.

    Returns:
        Squared chords ``(...)``.
    """
    difference, total = root * (u - v), root * (u + v)
    ru, rv, u, v = safe_norm(root * u), safe_norm(root * v), unit(u), unit(v)
    length = torch.where(ru + rv > 0, ru + rv, 1)  # (...), 1 where both vectors are zero
    lag = (difference * total).sum(-1) / length
    bisector = unit(u + v)
    across = difference - (difference * bisector).sum(-1, keepdim=True) * bisector
    # |u^ - v^|^2 (...): unit vectors lose the angle of close ones, their difference does not; at
    # an obtuse angle the bisector is ill-defined and the unit vectors are right
    turn = torch.where(
        (u * v).sum(-1) > 0, squared_norm(2 * across / length[..., None]), squared_norm(u - v)
    )
    return 4 * torch.sinh(lag / 2).square() + torch.sinh(ru) * torch.sinh(rv) * turn
