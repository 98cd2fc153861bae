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

from ..compat import is_autocasting
from .stable import takes_formulas

_LANES = 8
"""Numbers that a row should be a multiple of."""

_FEW = 64
"""Rows up to which the copies of the weights would take longer than they save."""


class _Linear(Function):
    """``[x W_1' + b_1, x W_2' + b_2, ...]``."""

    @staticmethod
    def forward(ctx, x: Tensor, count: int, *tensors: Tensor | None) -> Tensor:
        # x (..., d), count weights (o, d), count biases (o,) or None
        ctx.save_for_backward(x, *tensors[:count])
        weight, bias = _joined(tensors[:count], tensors[count:])
        size = len(weight)
        if missing := -size % _LANES:
            weight = F.pad(weight, (0, 0, 0, missing))
            bias = None if bias is None else F.pad(bias, (0, missing))
        return F.linear(x, weight, bias)[..., :size]

    @staticmethod
    def backward(ctx, grad: Tensor):
        # all of it can be differentiated again
        x, *weights = ctx.saved_tensors
        count, dims = len(weights), x.shape[-1]
        sizes = [len(w) for w in weights]
        width = -(-dims // _LANES) * _LANES
        rows = grad.reshape(-1, grad.shape[-1])  # (R, o)
        gx, g_weights, g_biases = None, [None] * count, [None] * count
        if ctx.needs_input_grad[0]:
            whole, start = x.new_zeros(sum(sizes), width), 0
            for size, w in zip(sizes, weights):
                whole[start : start + size, :dims] = w
                start += size
            gx = (rows @ whole)[:, :dims].view_as(x)
        if any(ctx.needs_input_grad[2 : 2 + count]):
            filled = F.pad(x.reshape(-1, dims), (0, width - dims))
            g_weights = (rows.t() @ filled)[:, :dims].split(sizes)
        if any(ctx.needs_input_grad[2 + count :]):
            g_biases = rows.sum(0).split(sizes)
        needed = ctx.needs_input_grad[2:]
        found = [g if n else None for g, n in zip((*g_weights, *g_biases), needed)]
        return gx, None, *found


def _joined(
    weights: Sequence[Tensor], biases: Sequence[Tensor | None]
) -> tuple[Tensor, Tensor | None]:
    """One weight and bias of several."""
    if len(weights) == 1:
        return weights[0], biases[0]
    given = [b for b in biases if b is not None]
    return torch.cat(list(weights)), torch.cat(given) if given else None


def linear(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Tensor:
    """Linear maps of the same vectors, side by side: ``F.linear`` with the weights joined.

    Args:
        x: ``(..., d)``.
        weights: One or more, each ``(o_i, d)``.
        biases: As many, ``(o_i,)`` or all of them None.

    Returns:
        ``(..., o_1 + o_2 + ...)``.
    """
    several, few = len(weights) > 1, x.numel() <= _FEW * x.shape[-1]
    if (
        few
        or (x.shape[-1] % _LANES == 0 and len(weights[0]) % _LANES == 0 and not several)
        or not torch.is_grad_enabled()
        or x.device.type != 'cpu'
        or x.dtype not in (torch.float32, torch.float64)
        or any(w.dtype != x.dtype for w in weights)
        or is_autocasting('cpu')
        or takes_formulas(x, *weights, *biases)
    ):
        if several and not few:
            return F.linear(x, *_joined(weights, biases))
        parts = [F.linear(x, w, b) for w, b in zip(weights, biases)]
        return torch.cat(parts, -1) if several else parts[0]
    return _Linear.apply(x, len(weights), *weights, *biases)
