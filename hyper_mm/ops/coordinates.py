r"""Coordinates of other models and of other libraries.

Points of the hyperboloid by their space components, as in :mod:`hyper_mm.ops.lorentz` (which offers
the first four functions too), and the same points as ambient points, in Klein's model, and as
geoopt and HypLL hold them. What the libraries call curvature:

========================  ===========================================================
``hyper_mm``              ``c > 0``, the curvature is ``-c``
``geoopt.Lorentz(k)``     ``k = 1 / c``, the squared radius; ambient points, time first
``geoopt.PoincareBall``   ``c``, as here; points of the ball
``geoopt.Stereographic``  ``k = -c``; points of the ball
HypLL ``Curvature(v)``    ``c = softplus(v)`` with its default constraint; points of the ball
MERU ``curv``             ``c``, as here; space components, as here
========================  ===========================================================
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .inputs import Curvature, check_curvature, check_widths, sqrt, upcast, wide_sqrt, widen
from .stable import squared_norm

__all__ = [
    'from_ambient',
    'from_geoopt',
    'from_hypll_curvature',
    'from_klein',
    'to_ambient',
    'to_geoopt',
    'to_hypll_curvature',
    'to_klein',
]


def _time(x: Tensor) -> Tensor:
    """Time parts ``(..., 1)`` of points of curvature -1."""
    return (squared_norm(x, keepdim=True) + 1).sqrt()


def to_klein(x: Tensor, c: Curvature) -> Tensor:
    r"""Coordinates of Klein's model, where geodesics are straight: :math:`x / (\sqrt c\, x_0)`.

    Args:
        x: Points of the hyperboloid ``(..., d)``.
        c: Curvature.

    Returns:
        Points of the ball ``(..., d)``, ``c |k|^2 < 1``.
    """
    (x,) = upcast(x)
    return x / _time(sqrt(check_curvature(c, x)) * x)


def from_klein(k: Tensor, c: Curvature) -> Tensor:
    r"""Points of Klein's coordinates, :math:`k / \sqrt{1 - c \lVert k \rVert^2}`.

    Args:
        k: Points of Klein's model ``(..., d)``.
        c: Curvature.

    Returns:
        Points of the hyperboloid ``(..., d)``; NaN outside the ball.
    """
    (k,) = upcast(k)
    gap = 1 - squared_norm(widen(k) * wide_sqrt(check_curvature(c, k)), keepdim=True)
    return k * torch.where(gap > 0, gap, torch.nan).rsqrt().to(k.dtype)


def to_ambient(x: Tensor, c: Curvature) -> Tensor:
    r"""Ambient points, time first: :math:`[x_0;\, x]`.

    Args:
        x: Points ``(..., d)``.
        c: Curvature.

    Returns:
        ``(..., 1 + d)``.
    """
    (x,) = upcast(x)
    c = check_curvature(c, x)
    return torch.cat([(squared_norm(x, keepdim=True) + 1 / c).sqrt(), x], -1)


def from_ambient(y: Tensor) -> Tensor:
    """Space components of ambient points: all but the first number.

    Args:
        y: Ambient points ``(..., 1 + d)``, time first.

    Returns:
        ``(..., d)``, a view where nothing is promoted.
    """
    (y,) = upcast(y)
    check_widths(y)
    return y[..., 1:]


def to_geoopt(x: Tensor, c: Curvature) -> tuple[Tensor, Curvature]:
    """Points and the parameter of ``geoopt.Lorentz``.

    Args:
        x: Points ``(..., d)``.
        c: Curvature.

    Returns:
        Ambient points ``(..., 1 + d)`` and ``k = 1 / c`` for ``geoopt.Lorentz(k)``.
    """
    return to_ambient(x, c), 1 / c


def from_geoopt(y: Tensor, k: Curvature) -> tuple[Tensor, Curvature]:
    """Points and curvature from those of ``geoopt.Lorentz(k)``; the inverse of :func:`to_geoopt`.

    Args:
        y: Ambient points ``(..., 1 + d)``, time first.
        k: The parameter of the manifold.

    Returns:
        Points ``(..., d)`` and ``c = 1 / k``.
    """
    return from_ambient(y), 1 / check_curvature(k, y, name='k')


def to_hypll_curvature(c: float) -> float:
    r"""The value of ``hypll`` 's ``Curvature(value)`` that stands for ``c``.

    .. math:: \log(e^c - 1) = c + \log(1 - e^{-c})

    Points of its ``PoincareBall`` are those of :func:`hyper_mm.ops.lorentz.to_poincare`.

    Args:
        c: Curvature.

    Returns:
        The value before its default constraint, softplus.
    """
    c = float(check_curvature(c))
    return c + math.log(-math.expm1(-c))


def from_hypll_curvature(value: float) -> float:
    """The curvature ``c = softplus(value)`` of ``hypll`` 's ``Curvature(value)``.

    Args:
        value: Its value before the default constraint.

    Returns:
        ``c``.
    """
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))
