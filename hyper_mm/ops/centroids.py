r"""Lorentz centroids in few passes over memory.

.. math:: \mu = \frac{S}{\sqrt D},\qquad S = \sum_i w_i x_i,\qquad T = \sum_i w_i t_i,\qquad
    D = T^2 - c \lVert S \rVert^2,\qquad t_i = \sqrt{1 + c \lVert x_i \rVert^2}

with the gradients, for that of the result :math:`g` and :math:`a = g \cdot S`,

.. math:: \bar S = \frac{g}{\sqrt D} + \frac{c\, a}{D^{3/2}} S,\qquad
    \bar T = -\frac{a\, T}{D^{3/2}},\qquad
    \bar x_i = w_i \bar S + \frac{c\, w_i \bar T}{t_i} x_i,\qquad
    \bar w_i = \bar S \cdot x_i + \bar T t_i

Sums are of float64 numbers. Where ``D`` is what they leave of large ones, of points that are close
together far out, it is taken from light-cone coordinates, which lose nothing: with a direction
:math:`u`, that of ``S``, :math:`l_i = \sqrt c\, u \cdot x_i` and
:math:`y_i = \sqrt c\, x_i - l_i u`,

.. math:: p_i = t_i + l_i,\qquad q_i = t_i - l_i = \frac{1 + \lVert y_i \rVert^2}{p_i},\qquad
    D = \Big(\sum_i w_i p_i\Big) \Big(\sum_i w_i q_i\Big) - \Big\lVert \sum_i w_i y_i \Big\rVert^2
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function

from .backward import recorded_gradients, takes_plain_backward
from .inputs import PLAIN, Curvature, is_readable, takes_formulas, wide_sqrt, widen
from .stable import safe_norm, squared_norm, unit

__all__ = ['centroid', 'check_weight', 'formula', 'in_few_passes']

_LEAST = 1e-8
"""Least part of ``T^2`` that ``D`` is, for which its gradients have eight digits."""
_LEAST_WIDE = 1e-2
"""The same for points in float64, whose gradients have 14."""


def check_weight(weight: Tensor | None, x: Tensor) -> Tensor | None:
    """Validates the weights of points.

    Args:
        weight: Weights ``(..., n)``, or None.
        x: Points ``(..., n, d)``.

    Returns:
        ``weight`` itself.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If its shape does not fit; if a weight is negative, where values can be read at
            once.
    """
    if weight is None:
        return None
    if not isinstance(weight, Tensor):
        raise TypeError(f'weight must be a tensor, got {type(weight).__name__}')
    batch = zip(reversed(weight.shape[:-1]), reversed(x.shape[:-2]))
    if weight.shape[-1:] != x.shape[-2:-1] or any(a != b and 1 not in (a, b) for a, b in batch):
        raise ValueError(
            f'weight must broadcast with {tuple(x.shape[:-1])} and have one number a point, got '
            f'shape {tuple(weight.shape)}'
        )
    if is_readable(weight) and (weight < 0).any():
        raise ValueError(f'weight must not be negative, got {weight.min().item()}')
    return weight


class _Centroid(Function):
    """A centroid that is known, with its gradients."""

    @staticmethod
    def forward(ctx, c: float, computed, x, weight):
        ctx.c, ctx.weighted = c, weight is not None
        *kept, result = computed
        ctx.save_for_backward(x, *([weight] if ctx.weighted else []), *kept)
        return result

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, *rest = ctx.saved_tensors
        weight = rest.pop(0) if ctx.weighted else None
        if takes_plain_backward(grad):
            found = recorded_gradients(formula, (x, weight, ctx.c), grad)
            return None, None, *found[:2]
        times, space, total, scale = rest  # (..., n), (..., d), (...), (...); all float64
        pull = (grad * space).sum(-1) * scale**3
        g_space = torch.addcmul(
            grad * scale.unsqueeze(-1), space, (ctx.c * pull).unsqueeze(-1)
        ).unsqueeze(-2)  # (..., 1, d)
        g_total = -(pull * total).unsqueeze(-1)  # (..., 1)
        along = (ctx.c * g_total / times).unsqueeze(-1)
        if weight is None:
            return None, None, torch.addcmul(g_space, x, along).to(x.dtype), None
        share = weight.unsqueeze(-1).double()
        g_x = torch.addcmul(share * g_space, x, share * along).to(x.dtype)
        g_weight = None
        if ctx.needs_input_grad[3]:
            g_weight = torch.addcmul((g_space * x).sum(-1), g_total, times).to(weight.dtype)
        return None, None, g_x, g_weight


def centroid(x: Tensor, weight: Tensor | None, c: Curvature) -> Tensor:
    """Lorentz centroids; see :func:`hyper_mm.ops.lorentz.centroid`.

    Args:
        x: Points ``(..., n, d)``.
        weight: Weights ``(..., n)``, checked, or None.
        c: Curvature, checked.

    Returns:
        Points ``(..., d)``.
    """
    found = in_few_passes(x, weight, c)
    return formula(x, weight, c) if found is None else found


def formula(x: Tensor, weight: Tensor | None, c: Curvature) -> Tensor:
    """The same as a formula of any points and curvature, for any kind of differentiation."""
    root = wide_sqrt(c)
    a = widen(x) * root
    one_set_each = weight is None or weight.ndim == 1 or weight.shape == x.shape[:-1]
    weight = a.new_ones(x.shape[-2]) if weight is None else weight.to(a.dtype)
    space = (weight.unsqueeze(-2) @ a).squeeze(-2)  # (..., d)
    total = (weight * (1 + squared_norm(a)).sqrt()).sum(-1, keepdim=True)
    length = safe_norm(space, keepdim=True)
    gap = (total - length) * (total + length)
    if is_readable(x):
        few = _LEAST if x.dtype == torch.float32 else _LEAST_WIDE
        lost = not (gap > few * total.square()).all()
    else:  # always, but for many weights of one set, which would take the memory of as many sets
        lost = one_set_each
    if lost:
        gap = _light_cone_gap(a, weight, unit(space.detach()))
    # never less than for equal points; below it by rounding alone, where there is nothing to learn
    gap = gap.clamp_min(0.999 * weight.sum(-1, keepdim=True).square())
    scale = torch.where(gap > 0, torch.where(gap > 0, gap, 1).rsqrt(), 0)
    root = root.squeeze(-2) if isinstance(root, Tensor) and root.ndim > 1 else root
    return (space * scale / root).to(x.dtype)


def _light_cone_gap(a: Tensor, weight: Tensor, direction: Tensor) -> Tensor:
    """``D`` in light-cone coordinates along any direction.

    Args:
        a: Scaled points ``(..., n, d)``.
        weight: ``(..., n)``.
        direction: Unit or zero vectors ``(..., d)``, on which ``D`` does not depend.

    Returns:
        ``(..., 1)``.
    """
    along = (a @ direction.unsqueeze(-1)).squeeze(-1)  # (..., n)
    across = a - along.unsqueeze(-1) * direction.unsqueeze(-2)  # (..., n, d)
    square = 1 + squared_norm(across)
    large = (square + along.square()).sqrt() + along.abs()
    small = square / large
    ahead = along >= 0
    p, q = torch.where(ahead, large, small), torch.where(ahead, small, large)
    rest = (weight.unsqueeze(-2) @ across).squeeze(-2)
    gap = (weight * p).sum(-1) * (weight * q).sum(-1) - squared_norm(rest)
    return gap.unsqueeze(-1)


def in_few_passes(x: Tensor, weight: Tensor | None, c: Curvature) -> Tensor | None:
    """Centroids by :class:`_Centroid`.

    None where sums are not precise, all weights of a set are 0, weights are of another shape than
    points, points are not in float32 on a processor, or the curvature is a tensor.
    """
    tensors = (x,) if weight is None else (x, weight)
    if isinstance(c, Tensor) or x.dtype != torch.float32 or x.ndim < 2 or not is_readable(x):
        return None
    if takes_formulas(*tensors) or not all(
        t.device == x.device and type(t) in PLAIN and t.shape in (x.shape, x.shape[:-1])
        for t in tensors
    ):
        return None
    with torch.no_grad():
        computed = _computed(x, weight, c)
    if computed is None:
        return None
    if not torch.is_grad_enabled():
        return computed[-1]
    return _Centroid.apply(c, computed, x, weight)


def _computed(x: Tensor, weight: Tensor | None, c: float) -> tuple[Tensor, ...] | None:
    """Times, ``S``, ``T``, ``D^(-1/2)`` and the result; None where they are not precise."""
    points = x.double()
    times = torch.linalg.vector_norm(points, dim=-1).square_().mul_(c).add_(1).sqrt_()
    if weight is None:
        space, total = points.sum(-2), times.sum(-1)
    else:
        weight = weight.double()
        space = (weight.unsqueeze(-2) @ points).squeeze(-2)
        total = (weight * times).sum(-1)
    length = torch.linalg.vector_norm(space, dim=-1).mul_(c**0.5)
    rest = (total - length).mul_(total + length)
    if not (rest > _LEAST * total.square()).all():  # nor where a sum is NaN, or weights are 0
        return None
    scale = rest.rsqrt_()
    return times, space, total, scale, (space * scale.unsqueeze(-1)).to(x.dtype)
