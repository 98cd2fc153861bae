"""Linear maps of widths at which matrix products are slow.

Ambient points are one wider than the points that they are of, so that widths are seldom multiples
of 8, and a matrix product whose result has rows of such a width takes up to 1.4 times as long on
processors (390 columns against 392, MKL). Here the matrices that are multiplied are filled up with
zeros, and several maps of the same points are one product.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from ..compat import is_autocasting, is_compiling, is_exporting
from .inputs import takes_formulas

_LANES = 8
"""Numbers that a row should be a multiple of."""

_FEW = 64
"""Rows up to which the copies of the weights would take longer than they save."""


def _up(size: int) -> int:
    return -(-size // _LANES) * _LANES


def _filled(weights: Sequence[Tensor], rows: int, columns: int) -> Tensor:
    """Weights ``(o_i, d)`` one below the other in a matrix of zeros ``(rows, columns)``."""
    whole, start, dims = weights[0].new_empty(rows, columns), 0, weights[0].shape[1]
    for w in weights:
        whole[start : start + len(w), :dims] = w
        start += len(w)
    whole[start:] = 0
    whole[:, dims:] = 0
    return whole


class _Linear(Function):
    """``[x W_1' + b_1, x W_2' + b_2, ...]``."""

    @staticmethod
    def forward(ctx, x: Tensor, count: int, *tensors: Tensor | None) -> Tensor:
        # x (..., d), count weights (o, d), count biases (o,) or None
        weights, biases = (
            [t for t in part if t is not None] for part in (tensors[:count], tensors[count:])
        )
        ctx.save_for_backward(x, *weights)
        size = sum(len(w) for w in weights)
        rows = _up(size)
        weight = weights[0] if size == rows and count == 1 else _filled(weights, rows, x.shape[-1])
        bias = F.pad(torch.cat(biases), (0, rows - size)) if biases else None
        return F.linear(x, weight, bias)[..., :size]

    @staticmethod
    def backward(ctx, grad: Tensor):
        # all of it can be differentiated again
        x, *weights = ctx.saved_tensors
        count, dims = len(weights), x.shape[-1]
        sizes = [len(w) for w in weights]
        width = _up(dims)
        fits = width == dims
        rows = grad.reshape(-1, grad.shape[-1])  # (R, o)
        gx, g_weights, g_biases = None, [None] * count, [None] * count
        if ctx.needs_input_grad[0]:
            whole = weights[0] if fits and count == 1 else _filled(weights, sum(sizes), width)
            gx = (rows @ whole)[:, :dims].view_as(x)
        if any(ctx.needs_input_grad[2 : 2 + count]):
            filled = x.reshape(-1, dims)
            filled = filled if fits else F.pad(filled, (0, width - dims))
            g_weights = (rows.t() @ filled)[:, :dims].split(sizes)
        if any(ctx.needs_input_grad[2 + count :]):
            g_biases = rows.sum(0).split(sizes)
        needed = ctx.needs_input_grad[2:]
        found = [g if n else None for g, n in zip((*g_weights, *g_biases), needed)]
        return gx, None, *found


def linear(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Tensor:
    """Linear maps of the same vectors, side by side: ``F.linear`` with the weights joined.

    Args:
        x: ``(..., d)``.
        weights: One or more, each ``(o_i, d)``.
        biases: As many, ``(o_i,)`` or all of them None.

    Returns:
        ``(..., o_1 + o_2 + ...)``.
    """
    several = len(weights) > 1
    if not is_exporting() and _trains_on_processor(x, weights):  # exported code knows no sizes
        if is_compiling():
            return _filled_formula(x, weights, biases)
        fits = x.shape[-1] % _LANES == 0 and len(weights[0]) % _LANES == 0 and not several
        few = x.numel() <= _FEW * x.shape[-1]
        if not (fits or few or takes_formulas(x, *weights, *biases)):
            return _Linear.apply(x, len(weights), *weights, *biases)
    parts = [F.linear(x, w, b) for w, b in zip(weights, biases)]
    return torch.cat(parts, -1) if several else parts[0]


def _trains_on_processor(x: Tensor, weights: Sequence[Tensor]) -> bool:
    """Whether products are large and slow enough for copies of the weights."""
    return (
        torch.is_grad_enabled()
        and x.device.type == 'cpu'
        and x.dtype in (torch.float32, torch.float64)
        and all(w.dtype == x.dtype for w in weights)
        and not is_autocasting('cpu')
    )


def _filled_formula(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]
) -> Tensor:
    """:func:`linear` by products of filled matrices, for a compiler, which fuses the filling."""
    weight = torch.cat(list(weights)) if len(weights) > 1 else weights[0]
    size, dims = weight.shape
    right, below = _up(dims) - dims, _up(size) - size
    if right:
        x, weight = F.pad(x, (0, right)), F.pad(weight, (0, right))
    if below:
        weight = F.pad(weight, (0, 0, 0, below))
    found = F.linear(x, weight)[..., :size]
    given = [b for b in biases if b is not None]
    # added behind: the gradient of a bias is a sum over rows, which is slow over filled ones
    return found + torch.cat(given) if given else found
