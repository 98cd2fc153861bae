"""Distances of all pairs from one matrix product, with its cancellation corrected.

A squared chord is a product of two vectors, one of each point (:func:`chord_factors`), and so the
chords of all pairs are a matrix product. On a processor it is computed some rows at a time, which
become distances while they are in a cache: the product in float64 is never in memory as a whole.
Distances are always of products in float64; gradients are where they cancel.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from .backward import recorded_gradients, takes_plain_backward
from .inputs import Curvature, is_readable, takes_formulas
from .stable import chord_to_distance, squared_norm

_CLOSE = 1e-3
_COINCIDENT = 64 * torch.finfo(torch.float64).eps
_CHUNK = 1 << 22
"""Numbers in memory where close pairs are computed again."""

_CACHE = 1 << 17
"""Pairs that become distances at once: 1 MB in float64."""

_LONG = 1e30
"""Squared space components of which products stay finite in float32."""


class _Nearness(Enum):
    """Distance of the nearest pair, which decides how gradients are accumulated.

    The gradient of a pair is a difference of vectors about ``|a|^2 / h`` times as long. Where that
    is no more than 8, it keeps its digits in products in the dtype of the points.
    """

    COINCIDENT = 'some pair may be coincident'
    NEAR = 'gradients cancel'
    FAR = 'gradients do not cancel'


class Factors(NamedTuple):
    """Squared chords ``left @ right.mT`` of curvature -1, in the dtype of accumulation.

    Attributes:
        left: Vectors of the rows ``(..., n, k)``.
        right: Vectors of the columns ``(..., m, k)``.
        rows: Magnitude ``(..., n, 1)`` of the terms of a row that cancel in a squared chord.
        columns: The same of the columns ``(..., m, 1)``; terms cancel only where both are alike.
    """

    left: Tensor
    right: Tensor
    rows: Tensor
    columns: Tensor


def chord_factors(a: Tensor, b: Tensor) -> Factors:
    """Factors of the squared chords of points of curvature -1.

    With ``p = a0 - 1 = |a|^2 / (a0 + 1)``, and q the same of ``b``, ``2 (a0 b0 - 1 - a.b)`` is
    ``2 [p, 1, -a] [q + 1, q, b]'``. No term exceeds the squares of the space components, so that
    points near the origin keep their digits too, which would be lost beside a term of 1.

    Args:
        a: Points ``(..., n, d)``.
        b: Points ``(..., m, d)``.
    """
    plain = takes_formulas(a, b)
    return Factors(*(_factors(a, b) if plain else _ChordFactors.apply(a, b)))


def _factors(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    a2, b2 = squared_norm(a, keepdim=True), squared_norm(b, keepdim=True)
    p, q = (s / ((s + 1).sqrt() + 1) for s in (a2, b2))
    left = torch.cat([2 * p, torch.full_like(p, 2), -2 * a], -1)
    return left, torch.cat([q + 1, q, b], -1), a2, b2


class _ChordFactors(Function):
    """:func:`_factors`, with ``dp = a da / a0``; the magnitudes have no gradient."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor):
        left, right, a2, b2 = _factors(a, b)
        ctx.save_for_backward(a, b, left, right)
        ctx.mark_non_differentiable(a2, b2)
        return left, right, a2, b2

    @staticmethod
    def backward(ctx, g_left: Tensor, g_right: Tensor, *_: Tensor):
        a, b, left, right = ctx.saved_tensors
        if takes_plain_backward(g_left) or takes_plain_backward(g_right):
            return recorded_gradients(lambda *x: _factors(*x)[:2], (a, b), (g_left, g_right))
        g_a = g_b = None
        if ctx.needs_input_grad[0]:  # a0 = p + 1
            pull = 4 * g_left[..., :1] / (left[..., :1] + 2)
            g_a = torch.addcmul(-2 * g_left[..., 2:], a, pull)
        if ctx.needs_input_grad[1]:
            pull = g_right[..., :2].sum(-1, keepdim=True) / right[..., :1]
            g_b = torch.addcmul(g_right[..., 2:], b, pull)
        return g_a, g_b


def distances(
    factors: Factors, x: Tensor, y: Tensor, chord: Callable[..., Tensor], root: Curvature
) -> Tensor:
    """Distances of all pairs.

    Where the product is accumulated in the dtype of the points, close pairs are recomputed one by
    one; where it is accumulated in a wider one, pairs below its error are coincident.

    Args:
        factors: Those of the squared chords.
        x: Points or tangent vectors of the rows ``(..., n, d)``, from which ``chord`` computes.
        y: Those of the columns ``(..., m, d)``.
        chord: Function ``(x, y, root) -> t``, elementwise and free of cancellation.
        root: ``sqrt(c)``.

    Returns:
        Distances ``(..., n, m)`` of curvature ``-c``, in the dtype of the points.
    """
    left, right, rows, columns = factors
    rows, columns = rows.detach(), columns.detach().mT
    if left.dtype == x.dtype:
        t = left @ right.mT
        close = (t.detach() < _CLOSE * rows) & (t.detach() < _CLOSE * columns)
        distance = chord_to_distance(_refine(t, x, y, close, chord, root))
    else:
        least = torch.finfo(x.dtype).tiny
        rows, columns = ((_COINCIDENT * s).to(x.dtype).clamp_min(least) for s in (rows, columns))
        apart = _Distances.apply if _in_pieces(left, right) else _distances
        distance = apart(left, right, rows, columns)
    if isinstance(root, Tensor):
        return distance / root.to(x.dtype)
    return distance if root == 1 else distance / root


def _in_pieces(left: Tensor, right: Tensor) -> bool:
    """Whether the product may be taken some rows at a time, by a function of its own."""
    if left.ndim != 2 or right.ndim != 2 or takes_formulas(left, right):
        return False
    return is_readable(left) and is_readable(right)


def _distances(left: Tensor, right: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Distances of curvature -1 in the dtype of ``rows``; 0 where the chord is below its error."""
    t = (left @ right.mT).to(rows.dtype)
    return chord_to_distance(t.masked_fill((t.detach() <= rows) & (t.detach() <= columns), 0))


class _Distances(Function):
    """:func:`_distances` of matrices: ``D = log(1 + h + s)``, ``h = t/2``, ``s^2 = h (h + 2)``."""

    @staticmethod
    def forward(ctx, left: Tensor, right: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        # left (n, k), right (m, k), rows (n, 1), columns (1, m); s (n, m) is kept
        n, m = len(left), len(right)
        result, root = rows.new_empty(n, m), rows.new_empty(n, m)
        pieces, height = _pieces(n, m)
        wide, narrow = left.new_empty(height, m), rows.new_empty(height, m)
        halves, column, ctx.nearness = left / 2, columns.max().item(), []
        for i in pieces:
            h, s = narrow[: i.stop - i.start], root[i]
            h.copy_(torch.mm(halves[i], right.mT, out=wide[: len(h)]))
            nearness = _nearness(h.min().item(), rows[i].max().item(), column)
            if nearness is _Nearness.COINCIDENT:
                h.masked_fill_((h <= rows[i] / 2) & (h <= columns / 2), 0)
            # two roots: h (h + 2) would overflow
            torch.sqrt(h, out=s).mul_(torch.add(h, 2, out=result[i]).sqrt_())
            torch.log1p(h.add_(s), out=result[i])
            ctx.nearness.append(nearness)
        ctx.save_for_backward(left, right, rows, columns, root)
        return result

    @staticmethod
    def backward(ctx, grad: Tensor):
        left, right, rows, columns, root = ctx.saved_tensors
        if takes_plain_backward(grad):
            return recorded_gradients(_distances, (left, right, rows, columns), grad)
        of_left, of_right = ctx.needs_input_grad[:2]
        g_left = torch.empty_like(left) if of_left else None
        # in the dtype of accumulation, and for far pairs in that of the points
        dtypes = [left.dtype, root.dtype][: 1 + (_Nearness.FAR in ctx.nearness)]
        sides = [(left.to(dtype), right.to(dtype)) for dtype in dtypes]
        sums = [torch.zeros_like(b) for _, b in sides] if of_right else []
        pieces, height = _pieces(*root.shape)
        room = grad.new_empty(height, len(right))
        for i, nearness in zip(pieces, ctx.nearness):
            # dD / dh = 1 / s, and 0 where points coincide
            slope = torch.div(grad[i], root[i], out=room[: i.stop - i.start])
            if nearness is _Nearness.COINCIDENT:
                slope.masked_fill_(root[i] == 0, 0)
            which = nearness is _Nearness.FAR
            a, b = sides[which]
            slope = slope.to(a.dtype)
            if g_left is not None:
                g_left[i] = torch.mm(slope, b).div_(2)
            if of_right:
                sums[which].addmm_(slope.mT, a[i], alpha=0.5)
        g_right = sums[0].add_(sum(sums[1:])) if of_right else None
        return g_left, g_right, None, None


def _nearness(least: float, row: float, column: float) -> _Nearness:
    """How near the nearest pair of some rows may be; NaN counts as coincident.

    Args:
        least: The least ``h``.
        row: The largest bound of a coincident pair of the rows.
        column: The same of all columns.
    """
    if not 2 * least > min(row, column):
        return _Nearness.COINCIDENT
    most = max(row, column) / _COINCIDENT
    return _Nearness.FAR if most / 8 <= least and most < _LONG else _Nearness.NEAR


def _pieces(n: int, m: int) -> tuple[list[slice], int]:
    """Slices of the rows of a matrix ``(n, m)``, and the height of the first."""
    height = min(n, max(1, _CACHE // m))
    return [slice(start, min(start + height, n)) for start in range(0, n, height)], height


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
