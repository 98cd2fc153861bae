r"""Signed distances to hyperplanes, the logits of hyperbolic classifiers before their scale.

A hyperplane is given by a unit normal ``w`` at the origin and its signed distance ``o`` from the
origin along ``w``: it is the set of points orthogonal to the geodesic that runs from the origin in
the direction ``w``, at distance ``o``. It means the same hyperplane in both models.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import forms, poincare, rows
from .inputs import Curvature, check_curvature, check_sets, per_point, upcast, wide_sqrt, widen
from .logits import Points, lorentz_logits
from .stable import safe_norm, signed_asinh, squared_norm, unit

__all__ = [
    'gyroplane_dist',
    'lorentz_hyperplane_dist',
    'lorentz_pairwise_hyperplane_dist',
    'poincare_hyperplane_dist',
    'poincare_pairwise_hyperplane_dist',
]


def _check_offset(offset: float | Tensor) -> float | Tensor:
    if isinstance(offset, Tensor) and offset.is_floating_point():
        return widen(offset)
    if isinstance(offset, (int, float)) and not isinstance(offset, bool):
        return offset
    what = offset.dtype if isinstance(offset, Tensor) else type(offset).__name__
    raise TypeError(f'offset must be a number or a floating point tensor, got {what}')


def _check_planes(normal: Tensor, offset: Tensor) -> None:
    """Refuses what is no set of normals ``(..., m, d)`` with one offset ``(..., m)`` each."""
    check_sets(normal)
    if offset.shape[-1:] != normal.shape[-2:-1]:
        raise ValueError(
            f'offset must be of shape (..., {normal.shape[-2]}), one number a normal, got '
            f'{tuple(offset.shape)}'
        )


def lorentz_hyperplane_dist(
    x: Tensor, normal: Tensor, offset: float | Tensor, c: Curvature
) -> Tensor:
    r"""Signed distance of points to hyperplanes, elementwise.

    .. math:: d(x, H_{w, o}) = \tfrac{1}{\sqrt c} \operatorname{arsinh}\!\big(\sqrt c\,
        (\cosh(\sqrt c\, o)\, w \cdot x - \sinh(\sqrt c\, o)\, x_0)\big)
        = \tfrac{1}{\sqrt c} \operatorname{arsinh}\!\big(q \sinh(s - \sqrt c\, o)\big)

    with :math:`s = \operatorname{arsinh}(\sqrt c\, w \cdot x / q)` and :math:`q^2 = 1 + c \lVert
    x_\perp \rVert^2` of the part across ``w``. The second form, used here, subtracts no large
    numbers.

    Args:
        x: Points ``(..., d)``.
        normal: Normals at the origin ``(..., d)``, of any length above 0.
        offset: Signed distance of the hyperplane from the origin along its normal: a number, or a
            tensor that broadcasts with one number a point ``(...)``.
        c: Curvature.

    Returns:
        Distances ``(...)``, positive on the side that the normal points to; accumulated in float64
        and returned in the inputs' dtype. For a normal of length 0 that of the offset alone.

    Source: Bdeir et al., Fully Hyperbolic Convolutional Neural Networks (ICLR 2024).
    """
    x, normal = upcast(x, normal)
    dtype, root = x.dtype, wide_sqrt(check_curvature(c, x, normal))
    return _dist(root * widen(x), unit(widen(normal)), _check_offset(offset), root).to(dtype)


def _dist(x: Tensor, w: Tensor, offset: float | Tensor, root: Curvature) -> Tensor:
    along = (x * w).sum(-1)
    q = (1 + squared_norm(x - along.unsqueeze(-1) * w)).sqrt()
    root = per_point(root)
    return signed_asinh(q * torch.sinh(signed_asinh(along / q) - root * offset)) / root


def lorentz_pairwise_hyperplane_dist(
    x: Tensor, normal: Tensor, offset: Tensor, c: Curvature
) -> Tensor:
    r"""Signed distances of all points to all hyperplanes, by one matrix product.

    Args:
        x: Points ``(..., n, d)``.
        normal: Normals ``(..., m, d)``.
        offset: Offsets ``(..., m)``; see :func:`lorentz_hyperplane_dist`.
        c: Curvature: float, 0-dimensional, or ``(..., 1, 1)``.

    Returns:
        Distances ``(..., n, m)``, accumulated in float64 and returned in the inputs' dtype.
    """
    x, normal, offset = upcast(x, normal, offset)
    _check_planes(normal, offset)
    c = check_curvature(c, x, normal, shared=True)
    if _is_one_set(normal, offset, c):
        time = (safe_norm(x, wide=True).square() + 1 / _number(c)).sqrt()
        return _of_set(Points(x, torch.ones_like(time), time), normal, offset, c)
    a = wide_sqrt(c) * widen(x)
    time = (squared_norm(a, keepdim=True) + 1).sqrt()
    return _pairwise(a, time, normal, offset, wide_sqrt(c)).to(x.dtype)


def _is_one_set(normal: Tensor, offset: Tensor, c: Curvature) -> bool:
    """Whether hyperplanes and curvature are the same for all points."""
    one_curvature = not isinstance(c, Tensor) or c.numel() == 1
    return normal.ndim == 2 and offset.shape == normal.shape[:1] and one_curvature


def _number(c: Curvature) -> Curvature:
    return widen(c).reshape(()) if isinstance(c, Tensor) else c


def _of_set(points: Points, normal: Tensor, offset: Tensor, c: Curvature) -> Tensor:
    """Distances ``(..., n, m)`` to one set of hyperplanes, in few passes over memory."""
    return lorentz_logits(points, unit(widen(normal)), offset, _number(c))


def _pairwise(x: Tensor, time: Tensor, normal: Tensor, offset: Tensor, root: Curvature) -> Tensor:
    """Distances ``(..., n, m)`` from space components and times of curvature -1."""
    o = root * widen(offset).unsqueeze(-1)
    spaces = o.cosh() * unit(widen(normal))
    planes = torch.cat([spaces, -o.sinh().expand(*spaces.shape[:-1], 1)], -1)
    return signed_asinh(torch.cat([x, time], -1) @ planes.mT) / root


def poincare_hyperplane_dist(
    x: Tensor, normal: Tensor, offset: float | Tensor, c: Curvature
) -> Tensor:
    r"""As :func:`lorentz_hyperplane_dist`, of points of the ball.

    .. math:: d(x, H_{w, o}) = \tfrac{1}{\sqrt c} \operatorname{arsinh}\!\big(\lambda_x \sqrt c\,
        (w \cdot x) \cosh(\sqrt c\, o) - (\lambda_x - 1) \sinh(\sqrt c\, o)\big)

    Args:
        x: Points of the ball ``(..., d)``.
        normal: Normals at the origin ``(..., d)``, of any length above 0.
        offset: Signed distance of the hyperplane from the origin.
        c: Curvature.

    Returns:
        Distances ``(...)``; NaN outside the ball.

    Source: Shimizu et al., Hyperbolic Neural Networks++ (ICLR 2021), with ``o = 2 r`` of theirs.
    """
    x, normal = upcast(x, normal)
    dtype, root = x.dtype, wide_sqrt(check_curvature(c, x, normal))
    x = root * poincare.to_lorentz(widen(x), c)
    return _dist(x, unit(widen(normal)), _check_offset(offset), root).to(dtype)


def poincare_pairwise_hyperplane_dist(
    x: Tensor, normal: Tensor, offset: Tensor, c: Curvature
) -> Tensor:
    """As :func:`lorentz_pairwise_hyperplane_dist`, of points of the ball.

    Args:
        x: Points of the ball ``(..., n, d)``.
        normal: Normals ``(..., m, d)``.
        offset: Offsets ``(..., m)``.
        c: Curvature: float, 0-dimensional, or ``(..., 1, 1)``.

    Returns:
        Distances ``(..., n, m)``; NaN outside the ball.
    """
    x, normal, offset = upcast(x, normal, offset)
    _check_planes(normal, offset)
    c = check_curvature(c, x, normal, shared=True)
    if _is_one_set(normal, offset, c):
        square = safe_norm(x, wide=True).square() * _number(c)
        gap = torch.where(square < 1, 1 - square, torch.nan)
        return _of_set(
            Points(x, 2 / gap, (1 + square) / gap / wide_sqrt(_number(c))), normal, offset, c
        )
    a = wide_sqrt(c) * poincare.to_lorentz(widen(x), c)
    time = (squared_norm(a, keepdim=True) + 1).sqrt()
    return _pairwise(a, time, normal, offset, wide_sqrt(c)).to(x.dtype)


def gyroplane_dist(x: Tensor, p: Tensor, a: Tensor, c: Curvature) -> Tensor:
    r"""Signed distance to the hyperplane through a point, with a normal at that point.

    .. math:: d(x, H_{p, a}) = \tfrac{1}{\sqrt c} \operatorname{arsinh}
        \frac{2 \sqrt c\, \langle z, a \rangle}{(1 - c \lVert z \rVert^2) \lVert a \rVert},
        \qquad z = -p \oplus x

    Computed from the numerator of ``z``, ``(1 - c |p|^2)(x - p) - c |x - p|^2 p``, and from the
    product of the gaps of ``x`` and ``p``: the denominator of ``z`` cancels.

    Args:
        x: Points of the ball ``(..., d)``.
        p: Points of the ball on the hyperplanes ``(..., d)``.
        a: Normals at ``p`` ``(..., d)``, of any length above 0.
        c: Curvature.

    Returns:
        Distances ``(...)``, accumulated in float64 and returned in the inputs' dtype; 0 for a
        normal of length 0, NaN outside the ball.

    Source: Ganea et al., Hyperbolic Neural Networks (NeurIPS 2018), Theorem 5.
    """
    x, p, a = upcast(x, p, a)
    return rows.run(forms.GYROPLANE_DIST, _gyroplane_dist, check_curvature(c, x, p, a), x, p, a)


def _gyroplane_dist(x: Tensor, p: Tensor, a: Tensor, c: Curvature) -> Tensor:
    dtype, root = x.dtype, wide_sqrt(c)
    x, p, a = root * widen(x), root * widen(p), unit(widen(a))
    difference = x - p
    gap, other = (poincare.gap(y) for y in (p, x))
    z = gap * difference - squared_norm(difference, keepdim=True) * p
    ratio = (z * a).sum(-1, keepdim=True) / (gap * other)
    return (signed_asinh(2 * ratio).squeeze(-1) / per_point(root)).to(dtype)
