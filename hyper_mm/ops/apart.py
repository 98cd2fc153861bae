r"""Distances of points far from each other, in the fewest passes over memory.

.. math:: t = c \lVert x \rVert^2 + c \lVert y \rVert^2 - 2 c\, x \cdot y - (x_0 - y_0)^2,\qquad
    d = \tfrac{1}{\sqrt c} \operatorname{arcosh}(1 + t / 2),\qquad
    \nabla_x d = \frac{2 \sqrt c}{\sqrt{t (t + 4)}} \Big(\frac{y_0}{x_0}\, x - y\Big)

with times of curvature -1. Rounded products leave ``t`` an error of ``eps c (|x|^2 + |y|^2)``, and
so the distance a relative one of ``eps c (|x|^2 + |y|^2) / (sqrt(t (t + 4)) sqrt(c) d)``. Where the
quotient is at most 1 in each row, and no row is at the origin with both points, products of float32
numbers will do.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Function

from .backward import recorded_gradients, takes_plain_backward
from .inputs import Curvature, is_readable, takes_formulas

__all__ = ['dist']

_LEAST = 1e-30
"""Least product of a distance and its sine: below, squares of float32 numbers lose their digits."""


class _Dist(Function):
    """A distance that is known, with its gradients."""

    @staticmethod
    def forward(ctx, formula: Callable[..., Tensor], c: float, rows, x: Tensor, y: Tensor):
        ctx.formula, ctx.c = formula, c
        *kept, result = rows
        ctx.save_for_backward(x, y, *kept)
        return result

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, y, x0, y0, sine = ctx.saved_tensors
        if takes_plain_backward(grad):
            return None, None, None, *recorded_gradients(ctx.formula, (x, y, ctx.c), grad)[:2]
        slope = (2 * math.sqrt(ctx.c)) * grad / sine
        across = slope.float().neg_().unsqueeze(-1)
        found = []
        for one, other, ratio in ((x, y, y0 / x0), (y, x, x0 / y0)):
            along = ratio.mul_(slope).float().unsqueeze(-1)
            found.append((one * along).addcmul_(other, across))
        return None, None, None, *found


def dist(formula: Callable[..., Tensor], x: Tensor, y: Tensor, c: Curvature) -> Tensor | None:
    """Geodesic distances of the hyperboloid, elementwise, where all of them are far enough.

    Args:
        formula: The same of any points, for gradients that are differentiated again.
        x: Points ``(..., d)``.
        y: Points of the same shape.
        c: Curvature, checked.

    Returns:
        Distances ``(...)``; None where points are too close to each other for this, are not in
        float32 on a processor, or the curvature is a tensor.
    """
    if isinstance(c, Tensor) or x.dtype != torch.float32 or x.shape != y.shape or not x.ndim:
        return None
    if not (is_readable(x) and is_readable(y)) or takes_formulas(x, y):
        return None
    with torch.no_grad():
        xx, yy = (torch.linalg.vector_norm(z, dim=-1).double().square_().mul_(c) for z in (x, y))
        xy = (x * y).sum(-1).double()
        x0, y0, squares = (1 + xx).sqrt_(), (1 + yy).sqrt_(), xx + yy
        lead = (xx - yy).div_(x0 + y0)
        t = torch.addcmul(squares, lead, lead, value=-1).sub_(xy, alpha=2 * c)
        sine = (t * (t + 4)).sqrt_()
        r = torch.add(t, sine).mul_(0.5).log1p_()
        if not (sine * r >= squares.clamp_min(_LEAST)).all():  # False for NaN
            return None
        result = r.div_(math.sqrt(c)).float()
    if not torch.is_grad_enabled():
        return result
    return _Dist.apply(formula, c, (x0, y0, sine, result), x, y)
