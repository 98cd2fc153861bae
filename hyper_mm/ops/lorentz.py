r"""The hyperboloid (Lorentz model) of hyperbolic space, on space components.

Convention of the whole package: the curvature is ``-c`` with ``c > 0``, and a point is stored by
its space components ``x`` of shape ``(..., d)``; its time part is a function of it,
:math:`x_0 = \sqrt{1/c + \lVert x \rVert^2}`, so that a point can never leave the manifold:
:math:`\langle x, x \rangle_{\mathcal L} = \lVert x \rVert^2 - x_0^2 = -1/c`. A tangent vector at
the origin has no time part and is a plain vector of ``R^d``.

``c`` is a float or a tensor: 0-dimensional, or of the points' rank with a last dimension of 1.
Half precision is promoted to float32 and results stay there; float64 stays float64. Values and
gradients are finite for every scaled radius ``sqrt(c) d(0, x)`` up to 38 in float32 (sums of two
radii below 88 in distances), zero vectors and coincident points included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import apart, centroids, forms, rows
from .all_pairs import chord_factors, distances
from .chord import squared_chord, squared_chord_tangent0
from .coordinates import from_ambient, from_klein, to_ambient, to_klein
from .inputs import (
    Curvature,
    check_curvature,
    check_sets,
    per_point,
    sqrt,
    upcast,
    wide_sqrt,
    widen,
)
from .motions import geodesic, translate, transport, transport_to0
from .poincare import to_lorentz as from_poincare
from .stable import (
    asinh,
    chord_to_distance,
    radial_asinhc,
    radial_sinhc,
    safe_atan2,
    safe_norm,
    sinhc,
    squared_norm,
    unit,
)

__all__ = [
    'centroid',
    'dist',
    'dist0',
    'dist_tangent0',
    'expmap',
    'expmap0',
    'exterior_angle',
    'from_ambient',
    'from_klein',
    'from_poincare',
    'geodesic',
    'half_aperture',
    'inner',
    'logmap',
    'logmap0',
    'pairwise_dist',
    'pairwise_dist_tangent0',
    'pairwise_inner',
    'rescale',
    'time',
    'to_ambient',
    'to_klein',
    'to_poincare',
    'translate',
    'transport',
    'transport0',
    'transport_to0',
]


def time(x: Tensor, c: Curvature, keepdim: bool = False) -> Tensor:
    r"""Time part of points, :math:`x_0 = \sqrt{1/c + \lVert x \rVert^2}`.

    Args:
        x: Points ``(..., d)``.
        c: Curvature.
        keepdim: Keep the last dimension, of size 1.

    Returns:
        Time parts ``(...)``, or ``(..., 1)``.
    """
    (x,) = upcast(x)
    c = check_curvature(c, x)
    return (squared_norm(x, keepdim) + 1 / (c if keepdim else per_point(c))).sqrt()


def expmap0(v: Tensor, c: Curvature) -> Tensor:
    r"""Exponential map at the origin.

    .. math:: \exp_0(v) = \frac{\sinh(\sqrt c \lVert v \rVert)}{\sqrt c \lVert v \rVert}\, v

    Args:
        v: Tangent vectors at the origin ``(..., d)``, ``sqrt(c) |v| < 88`` in float32.
        c: Curvature.

    Returns:
        Points ``(..., d)`` at distance ``|v|`` from the origin.
    """
    (v,) = upcast(v)
    return radial_sinhc(v, check_curvature(c, v))


def logmap0(x: Tensor, c: Curvature) -> Tensor:
    r"""Logarithmic map at the origin, the inverse of :func:`expmap0`.

    .. math:: \log_0(x) = \frac{\operatorname{arsinh}(\sqrt c \lVert x \rVert)}
        {\sqrt c \lVert x \rVert}\, x

    Args:
        x: Points ``(..., d)``.
        c: Curvature.

    Returns:
        Tangent vectors at the origin ``(..., d)``.
    """
    (x,) = upcast(x)
    return radial_asinhc(x, check_curvature(c, x))


def dist0(x: Tensor, c: Curvature) -> Tensor:
    r"""Distance from the origin, :math:`\operatorname{arsinh}(\sqrt c \lVert x \rVert)/\sqrt c`.

    Args:
        x: Points ``(..., d)``.
        c: Curvature.

    Returns:
        Distances ``(...)``.
    """
    (x,) = upcast(x)
    root = per_point(sqrt(check_curvature(c, x)))
    return asinh(root * safe_norm(x)) / root


def inner(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    r"""Lorentzian inner product :math:`\langle x, y \rangle_{\mathcal L} = x \cdot y - x_0 y_0`.

    Args:
        x: Points ``(..., d)``.
        y: Points ``(..., d)``, broadcast with ``x``.
        c: Curvature.

    Returns:
        Products ``(...)``, at most ``-1/c``, accumulated in float64 and returned in the inputs'
        dtype.
    """
    x, y = upcast(x, y)
    dtype, c = x.dtype, check_curvature(c, x, y)
    x, y = widen(x), widen(y)
    return ((x * y).sum(-1) - time(x, c) * time(y, c)).to(dtype)


def dist(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    r"""Geodesic distance, elementwise.

    .. math:: d(x, y)
        = \tfrac{1}{\sqrt c} \operatorname{arcosh}(-c \langle x, y \rangle_{\mathcal L})
        = \tfrac{2}{\sqrt c} \operatorname{arsinh}\!\big(\tfrac{\sqrt c}{2}
        \sqrt{\lVert x - y \rVert^2 - (x_0 - y_0)^2}\big)

    Computed without cancellation: relative error 3e-7 in float32 up to scaled radius 3. Beyond, the
    rounding of the coordinates is the limit for close pairs (3e-6 at 6, 1e-4 at 9), which
    :func:`dist_tangent0` does not have.

    Args:
        x: Points ``(..., d)``.
        y: Points ``(..., d)``, broadcast with ``x``.
        c: Curvature.

    Returns:
        Distances ``(...)``; 0 with gradient 0 for coincident points.
    """
    x, y = upcast(x, y)
    c = check_curvature(c, x, y)
    found = apart.dist(_dist, x, y, c)
    return rows.run(forms.LORENTZ_DIST, _dist, c, x, y) if found is None else found


def _dist(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    root = sqrt(c)
    return (chord_to_distance(squared_chord(x, y, root)) / per_point(root)).to(x.dtype)


def dist_tangent0(u: Tensor, v: Tensor, c: Curvature) -> Tensor:
    r"""Distance between the points ``expmap0(u)`` and ``expmap0(v)``, elementwise.

    .. math:: \cosh(\sqrt c\, d) - 1 = 2 \sinh^2\frac{r_u - r_v}{2}
        + \tfrac12 \sinh r_u \sinh r_v \lVert \hat u - \hat v \rVert^2,\qquad
        r = \sqrt c \lVert \cdot \rVert

    This polar form subtracts no large numbers, so close pairs keep their digits at any radius.

    Args:
        u: Tangent vectors at the origin ``(..., d)``.
        v: Tangent vectors at the origin ``(..., d)``, broadcast with ``u``.
        c: Curvature.

    Returns:
        Distances ``(...)``; 0 with gradient 0 for coincident vectors.
    """
    u, v = upcast(u, v)
    root = sqrt(check_curvature(c, u, v))
    return chord_to_distance(squared_chord_tangent0(u, v, root)) / per_point(root)


def pairwise_inner(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    r"""Lorentzian inner products of all pairs, by one matrix product.

    Args:
        x: Points ``(..., n, d)``.
        y: Points ``(..., m, d)``.
        c: Curvature.

    Returns:
        Products ``(..., n, m)``, accumulated in float64 and returned in the inputs' dtype.
    """
    x, y = upcast(x, y)
    check_sets(x, y)
    a, b, c = widen(x), widen(y), check_curvature(c, x, y, shared=True)
    a = torch.cat([a, -time(a, c, keepdim=True)], -1)
    b = torch.cat([b, time(b, c, keepdim=True)], -1)
    return (a @ b.mT).to(x.dtype)


def pairwise_dist(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    r"""Geodesic distances of all pairs, by one matrix product; see :func:`dist`.

    The squared chord :math:`-2 - 2c \langle x, y \rangle_{\mathcal L}` is accumulated in float64
    (float32 inputs lose nothing to cancellation) and never through an ``(n, m, d)`` intermediate.
    float32 pairs closer than the rounding of their own coordinates (about ``1e-7 |x|``, and
    ``1e-19 / sqrt(c)``) count as coincident: distance 0, gradient 0. float64 inputs have their
    close pairs, a sparse set, recomputed from differences, which takes time in proportion to their
    number. Compiled code and transforms of :mod:`torch.func` cannot count them, and recompute all
    float64 pairs, some rows at a time: there, batch dimensions of float32 are faster.
    Gradients of float32 are summed in float64, too, but where no pair of some rows is close for
    its radius (:mod:`hyper_mm.ops.all_pairs`): there float32 keeps six digits.

    Args:
        x: Points ``(..., n, d)``.
        y: Points ``(..., m, d)``.
        c: Curvature: float, 0-dimensional, or ``(..., 1, 1)``.

    Returns:
        Distances ``(..., n, m)``.
    """
    x, y = upcast(x, y)
    check_sets(x, y)
    root = wide_sqrt(check_curvature(c, x, y, shared=True))
    unscaled = not isinstance(root, Tensor) and root == 1
    a, b = (widen(z) if unscaled else widen(z) * root for z in (x, y))
    return distances(chord_factors(a, b), x, y, squared_chord, root)


def pairwise_dist_tangent0(u: Tensor, v: Tensor, c: Curvature) -> Tensor:
    r"""Distances of all pairs of points given as tangent vectors at the origin.

    The points are made and multiplied in float64, so that float32 vectors do not lose their digits
    to rounded coordinates. Prefer it to ``pairwise_dist(expmap0(u), expmap0(v))`` wherever the
    tangent vectors are at hand.

    Args:
        u: Tangent vectors at the origin ``(..., n, d)``.
        v: Tangent vectors at the origin ``(..., m, d)``.
        c: Curvature: float, 0-dimensional, or ``(..., 1, 1)``.

    Returns:
        Distances ``(..., n, m)``; 0 with gradient 0 for coincident vectors.
    """
    same = u is v
    u, v = upcast(u, v)
    check_sets(u, v)
    root = wide_sqrt(check_curvature(c, u, v, shared=True))
    x = y = expmap0(widen(u) * root, 1.0)
    if not same:
        y = expmap0(widen(v) * root, 1.0)
    return distances(chord_factors(x, y), u, v, squared_chord_tangent0, root)


def expmap(x: Tensor, v: Tensor, c: Curvature) -> Tensor:
    r"""Exponential map at ``x``.

    .. math:: \exp_x(v) = \cosh(\sqrt c \lVert v \rVert_{\mathcal L})\, x
        + \frac{\sinh(\sqrt c \lVert v \rVert_{\mathcal L})}
        {\sqrt c \lVert v \rVert_{\mathcal L}}\, v

    Args:
        x: Points ``(..., d)``.
        v: Space components ``(..., d)`` of tangent vectors at ``x`` (the time part follows:
            ``v0 = x.v / x0``).
        c: Curvature.

    Returns:
        Points ``(..., d)``, accumulated in float64 and returned in the inputs' dtype: far out, what
        remains of ``v`` along ``x`` is a difference of large numbers.
    """
    x, v = upcast(x, v)
    return rows.run(forms.LORENTZ_EXPMAP, _expmap, check_curvature(c, x, v), x, v)


def _expmap(x: Tensor, v: Tensor, c: Curvature) -> Tensor:
    dtype, root = x.dtype, wide_sqrt(c)
    x, v = widen(x), widen(v)
    r = root * safe_norm(_flatten(x, v, root), keepdim=True)
    return (r.cosh() * x + sinhc(r) * v).to(dtype)


def _flatten(x: Tensor, v: Tensor, root: Curvature) -> Tensor:
    """A vector of the Euclidean norm that ``v`` has in the tangent space at ``x``.

    ``|v|^2 - v0^2`` is the tangential part plus the radial one shrunk by ``1 / (sqrt(c) x0)``.
    """
    axis = unit(x)
    radial = (axis * v).sum(-1, keepdim=True)
    return v + axis * radial * (1 / time(root * x, 1.0, keepdim=True) - 1)


def logmap(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    r"""Logarithmic map at ``x``, the inverse of :func:`expmap`.

    .. math:: \log_x(y) = \frac{r}{\sinh r} \big(y + c \langle x, y \rangle_{\mathcal L}\, x\big)
        = \frac{r}{\sinh r} (y - x) - r \tanh\!\big(\tfrac r2\big)\, x,
        \qquad r = \sqrt c\, d(x, y)

    Args:
        x: Points ``(..., d)``.
        y: Points ``(..., d)``, broadcast with ``x``.
        c: Curvature.

    Returns:
        Space components ``(..., d)`` of tangent vectors at ``x``, accumulated in float64 and
        returned in the inputs' dtype.
    """
    x, y = upcast(x, y)
    return rows.run(forms.LORENTZ_LOGMAP, _logmap, check_curvature(c, x, y), x, y)


def _logmap(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    dtype, root = x.dtype, wide_sqrt(c)
    x, y = widen(x), widen(y)
    r = chord_to_distance(squared_chord(x, y, root)).unsqueeze(-1)
    return ((y - x) / sinhc(r) - r * torch.tanh(r / 2) * x).to(dtype)


def half_aperture(x: Tensor, c: Curvature, min_radius: float = 0.1) -> Tensor:
    r"""Half-aperture of the entailment cone of a point.

    .. math:: \psi(x) = \arcsin\min\!\Big(1, \frac{2 K}{\sqrt c \lVert x \rVert}\Big)

    Args:
        x: Points ``(..., d)``.
        c: Curvature.
        min_radius: K; within ``2K / sqrt(c)`` of the origin the cone is the whole half space.

    Returns:
        Angles ``(...)`` in radians, in (0, pi/2]; constant (gradient 0) near the origin.

    Source: Ganea et al., Hyperbolic Entailment Cones (ICML 2018); Desai et al., MERU (ICML 2023).
    """
    if not min_radius > 0:
        raise ValueError(f'min_radius must be positive, got {min_radius}')
    (x,) = upcast(x)
    radius = per_point(sqrt(check_curvature(c, x))) * safe_norm(x)
    outside = radius > 2 * min_radius
    sine = 2 * min_radius / torch.where(outside, radius, 4 * min_radius)
    return torch.where(outside, torch.asin(sine), torch.pi / 2)


def exterior_angle(x: Tensor, y: Tensor, c: Curvature) -> Tensor:
    r"""Exterior angle at ``x`` of the triangle (origin, ``x``, ``y``).

    .. math:: \arccos \frac{y_0 + x_0\, c \langle x, y \rangle_{\mathcal L}}
        {\lVert x \rVert \sqrt{(c \langle x, y \rangle_{\mathcal L})^2 - 1}}
        = \operatorname{atan2}\big(\lVert y_\perp \rVert,\ \sqrt c\,(x_0\, y_\parallel
        - \lVert x \rVert\, y_0)\big)

    with ``y`` split along and across ``x``. The second form, used here, is exact for collinear
    points, where the first loses half its digits; far out the angle magnifies every rounding of the
    direction, so it is accumulated in float64.

    Args:
        x: Points ``(..., d)``, the apex.
        y: Points ``(..., d)``, broadcast with ``x``.
        c: Curvature.

    Returns:
        Angles ``(...)`` in radians, in [0, pi]: 0 where ``y`` lies straight behind ``x`` as seen
        from the origin. 0 for coincident points and pi/2 for ``x`` at the origin, both with
        gradient 0.
    """
    x, y = upcast(x, y)
    dtype, root = x.dtype, wide_sqrt(check_curvature(c, x, y))
    x, y = root * widen(x), root * widen(y)
    axis, difference = unit(x), y - x
    along, lead = (axis * y).sum(-1), (axis * difference).sum(-1)
    height = safe_norm(difference - lead.unsqueeze(-1) * axis)
    radius, x0, y0 = safe_norm(x), time(x, 1.0), time(y, 1.0)
    total = x0 * along + radius * y0
    ahead = total > 0
    # x0 y_par - |x| y0 as a difference of squares where its two terms have one sign
    squares = lead * (along + radius) - (radius * height).square()
    toward = torch.where(
        ahead & (along > 0),
        squares / torch.where(ahead, total, 1),
        x0 * along - radius * y0,
    )
    return torch.where(radius > 0, safe_atan2(height, toward), torch.pi / 2).to(dtype)


def centroid(x: Tensor, weight: Tensor | None = None, c: Curvature = 1.0) -> Tensor:
    r"""Lorentz centroid along the last but one dimension.

    .. math:: \mu = \frac{\sum_i w_i x_i}{\sqrt c\, \sqrt{-\langle s, s \rangle_{\mathcal L}}},
        \qquad s = \sum_i w_i x_i \ \text{(space and time parts)}

    It minimizes the weighted sum of squared Lorentzian chords to the points.

    Args:
        x: Points ``(..., n, d)``.
        weight: Non-negative weights ``(..., n)``, of any positive sum; all equal if None.
        c: Curvature: float, 0-dimensional, or ``(..., 1, 1)``.

    Returns:
        Points ``(..., d)``, accumulated in float64, with light-cone coordinates where digits would
        be lost, and returned in the inputs' dtype. The origin where all weights are 0. Where values
        cannot be read at once, more sets of weights than sets of points are plainly summed: of
        points that are close together that keeps digits up to a scaled radius of 12.

    Raises:
        ValueError: If shapes do not fit, or a weight is negative, where values can be read at once
            (on a processor, in eager code).

    Source: Law et al., Lorentzian Distance Learning for Hyperbolic Representations (ICML 2019).
    """
    (x,) = upcast(x)
    check_sets(x)
    weight, c = centroids.check_weight(weight, x), check_curvature(c, x, shared=True)
    return centroids.centroid(x, weight, c)


def transport0(x: Tensor, v: Tensor, c: Curvature) -> Tensor:
    r"""Parallel transport of a tangent vector from the origin to ``x``.

    .. math:: P_{0 \to x}(v) = v + \frac{c\, (x \cdot v)}{1 + \sqrt c\, x_0}\, x
        \quad\text{(space components)}

    Args:
        x: Points ``(..., d)``.
        v: Tangent vectors at the origin ``(..., d)``.
        c: Curvature.

    Returns:
        Space components ``(..., d)`` of tangent vectors at ``x``, of unchanged length.
    """
    x, v = upcast(x, v)
    root = sqrt(check_curvature(c, x, v))
    x = root * x
    return v + (x * v).sum(-1, keepdim=True) / (1 + time(x, 1.0, keepdim=True)) * x


def rescale(x: Tensor, c_in: Curvature, c_out: Curvature) -> Tensor:
    r"""Moves points between hyperboloids by the homothety :math:`x \sqrt{c_{in}/c_{out}}`.

    It preserves directions and scaled radii ``sqrt(c) d(0, x)``; distances scale by
    ``sqrt(c_in / c_out)``.

    Args:
        x: Points ``(..., d)`` of curvature ``-c_in``.
        c_in: Curvature of ``x``.
        c_out: Curvature of the result.

    Returns:
        Points ``(..., d)`` of curvature ``-c_out``.
    """
    (x,) = upcast(x)
    c_in, c_out = check_curvature(c_in, x, name='c_in'), check_curvature(c_out, x, name='c_out')
    return x * sqrt(c_in / c_out)


def to_poincare(x: Tensor, c: Curvature) -> Tensor:
    r"""Isometry to the Poincare ball of the same curvature, :math:`x / (1 + \sqrt c\, x_0)`.

    Args:
        x: Points of the hyperboloid ``(..., d)``.
        c: Curvature.

    Returns:
        Points of the ball ``(..., d)``, ``c |p|^2 < 1``.
    """
    (x,) = upcast(x)
    return x / (1 + time(sqrt(check_curvature(c, x)) * x, 1.0, keepdim=True))
