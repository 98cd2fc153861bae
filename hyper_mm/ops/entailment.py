r"""Entailment: exterior angles and cones, in Euclidean, Poincare and Lorentz form.

``y`` is entailed by ``x`` (is more specific than it) when the exterior angle at ``x`` is at most
the half-aperture of the cone of ``x``; :func:`cone_energy` is how far it is from that. Isometries
keep angles, so the Poincare forms are the Lorentz ones of the same points.

Sources: Ganea et al., Hyperbolic Entailment Cones (ICML 2018); Desai et al., MERU (ICML 2023);
Alper and Averbuch-Elor, Emergent Visual-Semantic Hierarchies (ECCV 2024) for the Euclidean form
around a root.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import lorentz, poincare
from .inputs import Curvature, check_widths, upcast
from .lorentz import exterior_angle as lorentz_exterior_angle
from .lorentz import half_aperture as lorentz_half_aperture
from .stable import angle_between, safe_norm

__all__ = [
    'cone_energy',
    'euclidean_exterior_angle',
    'euclidean_half_aperture',
    'lorentz_exterior_angle',
    'lorentz_half_aperture',
    'poincare_exterior_angle',
    'poincare_half_aperture',
]


def euclidean_exterior_angle(x: Tensor, y: Tensor, root: Tensor | None = None) -> Tensor:
    r"""Exterior angle at ``x`` of the flat triangle (root, ``x``, ``y``).

    .. math:: \Xi_r(x, y) = \pi - \angle(r, x, y) = \angle(x - r,\ y - x)

    Args:
        x: The more general points ``(..., d)``.
        y: The more specific points ``(..., d)``, broadcast with ``x``.
        root: Root ``(..., d)``; the origin if None.

    Returns:
        Angles ``(...)`` in radians, in [0, pi]; pi/2, with gradient 0, where ``x`` is the root or
        ``y`` is ``x``.

    Raises:
        ValueError: If they differ in their last dimension.
    """
    x, y = upcast(x, y)
    check_widths(x, y, *([] if root is None else [root]))
    return angle_between(x if root is None else x - root, y - x)


def euclidean_half_aperture(
    x: Tensor, root: Tensor | None = None, min_radius: float = 0.1
) -> Tensor:
    r"""Half-aperture of a flat entailment cone, :math:`\arcsin\min(1, K / \lVert x - r \rVert)`.

    Args:
        x: Points ``(..., d)``.
        root: Root ``(..., d)``; the origin if None.
        min_radius: K; within it the cone is the whole half space.

    Returns:
        Angles ``(...)`` in radians, in (0, pi/2]; constant (gradient 0) near the root.
    """
    if not min_radius > 0:
        raise ValueError(f'min_radius must be positive, got {min_radius}')
    (x,) = upcast(x)
    check_widths(x)
    radius = safe_norm(x if root is None else x - root)
    outside = radius > min_radius
    sine = min_radius / torch.where(outside, radius, 2 * min_radius)
    return torch.where(outside, torch.asin(sine), torch.pi / 2)


def poincare_exterior_angle(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    """Exterior angle at ``x`` of the hyperbolic triangle (origin, ``x``, ``y``) in the ball.

    Args:
        x: Points of the ball ``(..., d)``, the apex.
        y: Points of the ball ``(..., d)``, broadcast with ``x``.
        c: Curvature.

    Returns:
        Angles ``(...)`` in radians; see :func:`hyper_mm.ops.lorentz.exterior_angle`.
    """
    return lorentz.exterior_angle(poincare.to_lorentz(x, c), poincare.to_lorentz(y, c), c)


def poincare_half_aperture(x: Tensor, c: Curvature, min_radius: float = 0.1) -> Tensor:
    r"""Half-aperture of an entailment cone in the ball.

    .. math:: \psi(x) = \arcsin\min\!\Big(1, K \frac{1 - c \lVert x \rVert^2}
        {\sqrt c \lVert x \rVert}\Big)

    Args:
        x: Points of the ball ``(..., d)``.
        c: Curvature.
        min_radius: K.

    Returns:
        Angles ``(...)`` in radians, in (0, pi/2].
    """
    return lorentz.half_aperture(poincare.to_lorentz(x, c), c, min_radius)


def cone_energy(angle: Tensor, aperture: Tensor, scale: float = 1.0) -> Tensor:
    r"""Violation of entailment, :math:`[\Xi(x, y) - s\, \psi(x)]_+`.

    Args:
        angle: Exterior angles, radians.
        aperture: Half-apertures, radians, broadcast with ``angle``.
        scale: Multiplier of the aperture.

    Returns:
        Violations in radians, 0 inside the cone.
    """
    return (angle - scale * aperture).clamp_min(0)
