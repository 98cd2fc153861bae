r"""Means of points: the Frechet mean of both models and the Einstein midpoint of Klein's.

:func:`hyper_mm.ops.lorentz.centroid` is the mean in closed form, which minimizes squared chords;
the Frechet mean minimizes squared distances and has none.
"""

from __future__ import annotations

import warnings
from functools import partial

import torch
from torch import Tensor
from torch.autograd import Function

from . import lorentz, poincare
from .backward import recorded_gradients, takes_plain_backward
from .centroids import check_weight
from .inputs import (
    Curvature,
    check_curvature,
    check_sets,
    per_point,
    takes_formulas,
    upcast,
    wide_sqrt,
    widen,
)
from .stable import asinhc, safe_norm, squared_norm

__all__ = ['einstein_midpoint', 'lorentz_frechet_mean', 'poincare_frechet_mean']

FIXED_STEPS = 16
"""Newton steps of compiled and transformed code, which cannot read when it is done."""


def _check_weight(weight: Tensor | None, x: Tensor) -> Tensor:
    """Weights ``(..., n)`` of points ``(..., n, d)``, in their dtype; ones if None."""
    check_sets(x)
    weight = check_weight(weight, x)
    return x.new_ones(x.shape[-2]) if weight is None else weight.to(x.dtype)


def lorentz_frechet_mean(
    x: Tensor,
    weight: Tensor | None = None,
    c: Curvature = 1.0,
    tol: float = 1e-12,
    max_iter: int = 50,
) -> Tensor:
    r"""Frechet (Karcher) mean along the last but one dimension.

    .. math:: \mu = \operatorname*{arg\,min}_y \sum_i w_i\, d(x_i, y)^2

    by Newton's method from the centroid, with steps shortened where they do not lead down: with
    :math:`p_i` the points translated so that the iterate is at the origin, :math:`r_i` their scaled
    distances from there and :math:`k_i = r_i / \sinh r_i`,

    .. math:: \delta = \Big(\sum_i w_i \big(\hat p_i \hat p_i^\top + r_i \coth r_i\,
        (I - \hat p_i \hat p_i^\top)\big)\Big)^{-1} \sum_i w_i k_i\, p_i

    It converges quadratically; fewer points than dimensions are solved for in their span. Gradients
    are those of the mean itself and not of the iterations: a step at the mean has the derivative
    that the implicit function theorem says, and two steps have the second one, too.

    Args:
        x: Points ``(..., n, d)``.
        weight: Non-negative weights ``(..., n)``, of any positive sum; all equal if None.
        c: Curvature: float, 0-dimensional, or ``(..., 1, 1)``.
        tol: Scaled length of a step at which the iteration ends.
        max_iter: Most steps. Compiled code and transforms of :mod:`torch.func` take 16.

    Returns:
        Points ``(..., d)``, accumulated in float64 and returned in the inputs' dtype. The origin
        where all weights are 0.

    Raises:
        ValueError: If ``tol`` or ``max_iter`` is not positive, shapes do not fit, or a weight is
            negative (on a processor, in eager code, where values can be read at once).
    """
    if not tol > 0:
        raise ValueError(f'tol must be positive, got {tol}')
    if max_iter < 1:
        raise ValueError(f'max_iter must be at least 1, got {max_iter}')
    (x,) = upcast(x)
    root = wide_sqrt(check_curvature(c, x, shared=True))
    a = root * widen(x)
    weight = _check_weight(weight, a)
    total = weight.sum(-1, keepdim=True)
    weight = weight / torch.where(total > 0, total, 1)
    if takes_formulas(a, weight):
        with torch.no_grad():
            mean = _iterate(a.detach(), weight.detach(), tol, max_iter, fixed=True)
        mean = _refined(2, mean, a, weight)
    else:
        mean = _Mean.apply(a, weight, tol, max_iter)
    root = root.squeeze(-2) if isinstance(root, Tensor) and root.ndim > 1 else root
    return (mean / root).to(x.dtype)


class _Mean(Function):
    """The mean of points of curvature -1, whose weights have the sum 1 or are all 0."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, tol: float, max_iter: int) -> Tensor:
        mean = _iterate(x, weight, tol, max_iter)
        ctx.save_for_backward(x, weight, mean)
        return mean

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight, mean = ctx.saved_tensors
        mean = mean.detach()
        if takes_plain_backward(grad):
            formula = partial(_refined, 2, mean)
            return *recorded_gradients(formula, (x, weight), grad), None, None
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in (x, weight)]
            found = torch.autograd.grad(_refined(1, mean, *leaves), leaves, grad)
        return *found, None, None


def _refined(steps: int, mean: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    x0 = _time(x)
    for _ in range(steps):
        mean = _move(mean, _step(mean, x, x0, weight)[0])
    return mean


def _iterate(x: Tensor, weight: Tensor, tol: float, max_iter: int, fixed: bool = False) -> Tensor:
    """The mean of points of curvature -1; a step that does not lead down is shortened."""
    mean, x0 = lorentz.centroid(x, weight, 1.0), _time(x)
    step, cost = _step(mean, x, x0, weight)
    scale = torch.ones_like(mean[..., :1])
    for _ in range(FIXED_STEPS if fixed else max_iter):
        size = safe_norm(step, keepdim=True)
        if not fixed and not (scale * size > tol).any():
            break
        moved = _move(mean, scale * step)
        next_step, next_cost = _step(moved, x, x0, weight)
        # close to the mean costs are equal to their rounding, and steps say more
        closer = (size < 1e-3) & (safe_norm(next_step, keepdim=True) < size / 2)
        down = (next_cost < cost) | closer
        mean, step = torch.where(down, moved, mean), torch.where(down, next_step, step)
        cost, scale = torch.where(down, next_cost, cost), torch.where(down, 1, scale / 4)
    else:
        length = (scale * safe_norm(step, keepdim=True)).max().item() if not fixed else 0.0
        if length > tol:
            warnings.warn(
                f'the Frechet mean has not converged in {max_iter} steps: the next one would be of '
                f'length {length:.1e}, tol is {tol:.1e}',
                RuntimeWarning,
                stacklevel=5,
            )
    return _move(mean, scale * step)


def _time(x: Tensor) -> Tensor:
    """Time parts ``(..., 1)`` of points of curvature -1."""
    return (squared_norm(x, keepdim=True) + 1).sqrt()


def _move(mean: Tensor, step: Tensor) -> Tensor:
    return lorentz.translate(mean, lorentz.expmap0(step, 1.0), 1.0)


def _step(mean: Tensor, x: Tensor, x0: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Newton's step at ``mean`` ``(..., d)``, carried to the origin, and the cost ``(..., 1)``."""
    # the translation that takes the mean to the origin; see hyper_mm.ops.motions.translate
    at, m0 = mean.unsqueeze(-2), _time(mean).unsqueeze(-2)  # (..., 1, d), (..., 1, 1)
    apart = x - at  # (..., n, d)
    lean = apart @ at.mT  # (..., n, 1)
    lead = (squared_norm(apart, keepdim=True) + 2 * lean) / (x0 + m0)  # x0 - m0
    p = torch.addcmul(apart, lean / (1 + m0) - lead, at)
    size = safe_norm(p)  # sinh r
    small, square = size < 1e-2, size.square()
    ratio = asinhc(size)
    stretch = ratio * (1 + square).sqrt()  # r coth r, the Hessian across; it is 1 along
    s, far = torch.where(small, square, 0), torch.where(small, 1, square)
    series = -1 / 3 + s * (2 / 15 - s * (8 / 105 - s * 16 / 315))
    bend = weight * torch.where(small, series, (1 - stretch) / far)  # (..., n)
    # without any weight the point stays, which a singular matrix would not say
    none = (weight.sum(-1) == 0).to(x.dtype)
    whole = ((weight * stretch).sum(-1) + none)[..., None, None]
    cost = (weight * (ratio * size).square()).sum(-1, keepdim=True)
    n, d = x.shape[-2:]
    eye = torch.eye(min(n, d), dtype=x.dtype, device=x.device)
    pull, bent = (weight * ratio).unsqueeze(-1), bend.unsqueeze(-1)
    if n < d:  # (a I + P' B P)^-1 P' = P' (a I + B P P')^-1
        share = torch.linalg.solve(whole * eye + bent * (p @ p.mT), pull)
        return (share.mT @ p).squeeze(-2), cost
    gradient = p.mT @ pull
    return torch.linalg.solve(whole * eye + (bent * p).mT @ p, gradient).squeeze(-1), cost


def poincare_frechet_mean(
    x: Tensor,
    weight: Tensor | None = None,
    c: Curvature = 1.0,
    tol: float = 1e-12,
    max_iter: int = 50,
) -> Tensor:
    """As :func:`lorentz_frechet_mean`, of points of the ball.

    Args:
        x: Points of the ball ``(..., n, d)``.
        weight: Non-negative weights ``(..., n)``; all equal if None.
        c: Curvature: float, 0-dimensional, or ``(..., 1, 1)``.
        tol: Scaled length of a step at which the iteration ends.
        max_iter: Most steps.

    Returns:
        Points of the ball ``(..., d)``; the origin where all weights are 0, NaN where a point is
        outside.

    Raises:
        ValueError: As there.
    """
    (x,) = upcast(x)
    mean = lorentz_frechet_mean(poincare.to_lorentz(widen(x), c), weight, c, tol, max_iter)
    c = c.squeeze(-2) if isinstance(c, Tensor) and c.ndim > 1 else c
    return lorentz.to_poincare(mean, c).to(x.dtype)


def einstein_midpoint(k: Tensor, weight: Tensor | None = None, c: Curvature = 1.0) -> Tensor:
    r"""Einstein midpoint of points of Klein's model, along the last but one dimension.

    .. math:: m = \frac{\sum_i w_i \gamma_i k_i}{\sum_i w_i \gamma_i},\qquad
        \gamma_i = \frac{1}{\sqrt{1 - c \lVert k_i \rVert^2}}

    It is the Lorentz centroid in Klein's coordinates (:func:`hyper_mm.ops.lorentz.centroid`).

    Args:
        k: Points of Klein's model ``(..., n, d)``, see :func:`hyper_mm.ops.lorentz.to_klein`.
        weight: Non-negative weights ``(..., n)``; all equal if None.
        c: Curvature: float, 0-dimensional, or ``(..., 1, 1)``.

    Returns:
        Points of Klein's model ``(..., d)``, accumulated in float64 and returned in the inputs'
        dtype. The origin where all weights are 0; NaN where a point is outside of the ball.

    Raises:
        ValueError: If shapes do not fit, or a weight is negative (on a processor, in eager code,
            where values can be read at once).

    Source: Gulcehre et al., Hyperbolic Attention Networks (ICLR 2019).
    """
    (k,) = upcast(k)
    check_curvature(c, k, shared=True)
    wide = widen(k)
    gamma = lorentz.time(lorentz.from_klein(wide, c), c) * per_point(wide_sqrt(c))
    weight = gamma * _check_weight(weight, wide)
    total = weight.sum(-1, keepdim=True)
    share = weight / torch.where(total == 0, 1, total)
    return (share.unsqueeze(-2) @ wide).squeeze(-2).to(k.dtype)
