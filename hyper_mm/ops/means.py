r"""Means of points: the Frechet mean of both models and the Einstein midpoint of Klein's.

:func:`hyper_mm.ops.lorentz.centroid` is the mean in closed form, which minimizes squared chords;
the Frechet mean minimizes squared distances and has none.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from . import lorentz, poincare
from .stable import (
    Curvature,
    check_curvature,
    per_point,
    safe_norm,
    takes_formulas,
    tanhc,
    upcast,
    wide_sqrt,
    widen,
)

__all__ = ['einstein_midpoint', 'lorentz_frechet_mean', 'poincare_frechet_mean']

FIXED_STEPS = 16
"""Newton steps of compiled and transformed code, which cannot read when it is done."""


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
    :math:`l_i` the logarithms of the points at the iterate, carried to the origin, and :math:`r_i`
    their scaled lengths,

    .. math:: \delta = \Big(\sum_i w_i \big(\hat l_i \hat l_i^\top + r_i \coth r_i\,
        (I - \hat l_i \hat l_i^\top)\big)\Big)^{-1} \sum_i w_i\, l_i

    It converges quadratically. Gradients, of first and second order, are those of the mean itself
    and not of the iterations: the last two steps alone are differentiated, at a point where that is
    the implicit function theorem.

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
        ValueError: If ``tol`` or ``max_iter`` is not positive.
    """
    if not tol > 0:
        raise ValueError(f'tol must be positive, got {tol}')
    if max_iter < 1:
        raise ValueError(f'max_iter must be at least 1, got {max_iter}')
    (x,) = upcast(x)
    root = wide_sqrt(check_curvature(c, x, shared=True))
    a = root * widen(x)
    weight = a.new_ones(a.shape[-2]) if weight is None else weight.to(a.dtype)
    total = weight.sum(-1, keepdim=True)
    weight = weight / torch.where(total > 0, total, 1)
    with torch.no_grad():
        mean = _iterate(a.detach(), weight.detach(), tol, max_iter)
    for _ in range(2):
        mean = _move(mean, _step(mean, a, weight))
    root = root.squeeze(-2) if isinstance(root, Tensor) and root.ndim > 1 else root
    return (mean / root).to(x.dtype)


def _iterate(x: Tensor, weight: Tensor, tol: float, max_iter: int) -> Tensor:
    """The mean of points of curvature -1; a step that does not lead down is shortened."""
    mean = lorentz.centroid(x, weight, 1.0)
    fixed = takes_formulas(x, weight)
    cost, scale = _cost(mean, x, weight), torch.ones_like(mean[..., :1])
    for _ in range(FIXED_STEPS if fixed else max_iter):
        step = scale * _step(mean, x, weight)
        moved = _move(mean, step)
        new = _cost(moved, x, weight)
        down = new < cost
        mean, cost = torch.where(down[..., None], moved, mean), torch.where(down, new, cost)
        scale = torch.where(down[..., None], 1, scale / 4)
        if not fixed and not (safe_norm(step) > tol).any():
            return mean
    if not fixed:
        warnings.warn(
            f'the Frechet mean has not converged in {max_iter} steps: the last one was of length '
            f'{safe_norm(step).max().item():.1e}, tol is {tol:.1e}',
            RuntimeWarning,
            stacklevel=4,
        )
    return mean


def _cost(mean: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return (weight * lorentz.dist(mean.unsqueeze(-2), x, 1.0).square()).sum(-1)


def _move(mean: Tensor, step: Tensor) -> Tensor:
    return lorentz.expmap(mean, lorentz.transport0(mean, step, 1.0), 1.0)


def _step(mean: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Newton's step at ``mean`` ``(..., d)``, carried to the origin."""
    at = mean.unsqueeze(-2)
    logs = lorentz.transport_to0(at, lorentz.logmap(at, x, 1.0), 1.0)  # (..., n, d)
    r = safe_norm(logs)
    stretch = 1 / tanhc(r)  # r coth r, the Hessian across; it is 1 along
    small = r < 1e-2
    far = torch.where(small, 1, r).square()
    s = torch.where(small, r, 0).square()
    bend = torch.where(small, -1 / 3 + s / 45 * (1 - s * 2 / 21), (1 - stretch) / far)
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    bent = logs * (weight * bend).unsqueeze(-1)
    # without any weight the point stays, which a singular matrix would not say
    none = (weight.sum(-1) == 0).to(x.dtype)
    hessian = ((weight * stretch).sum(-1) + none)[..., None, None] * eye + bent.mT @ logs
    gradient = (weight.unsqueeze(-2) @ logs).mT
    return torch.linalg.solve(hessian, gradient).squeeze(-1)


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
        Points of the ball ``(..., d)``; NaN where a point is outside.
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

    Source: Gulcehre et al., Hyperbolic Attention Networks (ICLR 2019).
    """
    (k,) = upcast(k)
    check_curvature(c, k, shared=True)
    wide = widen(k)
    gamma = lorentz.time(lorentz.from_klein(wide, c), c) * per_point(wide_sqrt(c))
    weight = gamma if weight is None else gamma * weight.to(gamma.dtype)
    total = weight.sum(-1, keepdim=True)
    share = weight / torch.where(total == 0, 1, total)
    return (share.unsqueeze(-2) @ wide).squeeze(-2).to(k.dtype)
