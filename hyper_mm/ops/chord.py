"""Squared chords of the hyperboloid, from which every distance is computed.

The squared chord ``t = |x - y|_L^2 = -2 - 2 <x, y>`` of points scaled to curvature -1 determines
their distance, :func:`hyper_mm.ops.stable.chord_to_distance`. Here it is computed without
cancellation: elementwise, from points or from tangent vectors, and for all pairs from a matrix
product.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .stable import (
    Curvature,
    chord_to_distance,
    safe_norm,
    squared_norm,
    takes_formulas,
    unit,
)

_CLOSE = 1e-3
_COINCIDENT = 64 * torch.finfo(torch.float64).eps
_CHUNK = 1 << 22


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


def pairwise_chord(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Squared chords of all pairs of points of curvature -1, by one matrix product.

    With ``p = a0 - 1 = |a|^2 / (a0 + 1)``, and q the same of ``b``, ``2 (a0 b0 - 1 - a.b)`` is
    ``2 [p, 1, -a] [q + 1, q, b]'``. No term exceeds the squares of the space components, so that
    points near the origin keep their digits too, which would be lost beside a term of 1.

    Args:
        a: Points ``(..., n, d)``.
        b: Points ``(..., m, d)``.

    Returns:
        Squared chords ``(..., n, m)``, with errors of rounding; ``|a|^2`` ``(..., n, 1)`` and
        ``|b|^2`` ``(..., m, 1)``, the sizes of what cancels in them.
    """
    a2, b2 = squared_norm(a, keepdim=True), squared_norm(b, keepdim=True)
    p, q = (s / ((s + 1).sqrt() + 1) for s in (a2, b2))
    left = torch.cat([2 * p, torch.full_like(p, 2), -2 * a], -1)
    return left @ torch.cat([q + 1, q, b], -1).mT, a2, b2


def finish_pairwise(
    t: Tensor, x: Tensor, y: Tensor, rows: Tensor, columns: Tensor, chord: Callable, root: Curvature
) -> Tensor:
    """Distances from squared chords of a matrix product, with its cancellation corrected.

    Where the product was accumulated in the dtype of the points, close pairs are recomputed one by
    one; where it was accumulated in a wider one, pairs below its error are coincident.

    Args:
        t: Squared chords, scaled to curvature -1, ``(..., n, m)`` in the accumulation dtype.
        x: Points or tangent vectors of the rows ``(..., n, d)``, from which ``chord`` computes.
        y: Those of the columns ``(..., m, d)``.
        rows: Magnitude ``(..., n, 1)`` of the terms of a row that cancel in ``t``.
        columns: The same of the columns ``(..., m, 1)``; terms cancel only where both are alike.
        chord: Function ``(x, y, root) -> t``, elementwise and free of cancellation.
        root: ``sqrt(c)``.

    Returns:
        Distances ``(..., n, m)`` of curvature ``-c``, in the dtype of the points.
    """
    rows, columns = rows.detach(), columns.detach().mT
    if t.dtype == x.dtype:
        close = (t.detach() < _CLOSE * rows) & (t.detach() < _CLOSE * columns)
        t = _refine(t, x, y, close, chord, root)
    else:
        t = t.to(x.dtype)
        least = torch.finfo(x.dtype).tiny
        rows, columns = ((_COINCIDENT * s).to(x.dtype).clamp_min(least) for s in (rows, columns))
        t = t.masked_fill((t.detach() <= rows) & (t.detach() <= columns), 0)
    distance = chord_to_distance(t)
    if isinstance(root, Tensor):
        return distance / root.to(x.dtype)
    return distance if root == 1 else distance / root


def _refine(
    t: Tensor, x: Tensor, y: Tensor, close: Tensor, chord: Callable, root: Curvature
) -> Tensor:
    """Recomputes the squared chords where ``close`` by ``chord``."""
    if takes_formulas(t):
        return _refine_dense(t, x, y, close, chord, root)
    # indices (pairs,) of rows and columns, and of the batch if there is one
    *batch, i, j = torch.nonzero(close, as_tuple=True)
    if not i.numel():
        return t.clamp_min(0)
    x = x.expand(*t.shape[:-2], *x.shape[-2:])
    y = y.expand(*t.shape[:-2], *y.shape[-2:])
    if isinstance(root, Tensor) and root.numel() > 1:
        root = root.expand(*t.shape[:-2], *x.shape[-2:-1], 1)
    step = max(1, _CHUNK // x.shape[-1])  # pairs at a time: (step, d) in memory
    exact = []
    for start in range(0, i.numel(), step):
        part = slice(start, start + step)
        head = [k[part] for k in batch]
        rows, columns = (*head, i[part]), (*head, j[part])
        scale = root[rows] if isinstance(root, Tensor) and root.numel() > 1 else root
        exact.append(chord(x[rows], y[columns], scale))
    return t.index_put((*batch, i, j), torch.cat(exact)).clamp_min(0)


def _refine_dense(
    t: Tensor, x: Tensor, y: Tensor, close: Tensor, chord: Callable, root: Curvature
) -> Tensor:
    """As :func:`_refine`, without reading the number of close pairs: all, some rows at a time."""
    if isinstance(root, Tensor) and root.ndim > 1:
        root = root.unsqueeze(-1)
    step = max(1, _CHUNK // max(1, y.shape[-2] * y.shape[-1]))
    exact = [chord(part.unsqueeze(-2), y.unsqueeze(-3), root) for part in x.split(step, -2)]
    return torch.where(close, torch.cat(exact, -2), t).clamp_min(0)
