"""Numerical building blocks of the geometry ops.

Everything here is total: finite values and finite gradients on the documented domain, including
zero vectors and coincident points, and usable twice (every backward is itself differentiable).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..compat import is_exporting
from .backward import recorded_gradients, takes_plain_backward
from .inputs import (  # noqa: F401, for those who import them from here
    PLAIN,
    Curvature,
    check_curvature,
    check_sets,
    check_widths,
    is_readable,
    per_point,
    sqrt,
    takes_formulas,
    upcast,
    wide_sqrt,
    widen,
)

_SERIES_RADIUS = 1e-2


def squared_norm(x: Tensor, keepdim: bool = False) -> Tensor:
    """``|x|^2`` along the last dimension."""
    return x.square().sum(-1, keepdim=keepdim)


class _Gap(torch.autograd.Function):
    """``1 - c |x|^2`` in float64 of float32 vectors, which are not kept in float64."""

    @staticmethod
    def forward(ctx, x: Tensor, c: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.c = c
        gap = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float64).square_()
        gap.mul_(-c).add_(1)
        return gap.masked_fill_(~(gap > 0), torch.nan)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x,) = ctx.saved_tensors
        return x * (grad * (-2 * ctx.c)).to(x.dtype), None


def wide_gap(x: Tensor, root: Curvature) -> Tensor:
    """``1 - c |x|^2`` in the dtype of :func:`widen`, as a column; NaN where it is not positive.

    Args:
        x: Points of the ball ``(..., d)``.
        root: ``sqrt(c)``.
    """
    plain = x.dtype == torch.float64 or x.device.type == 'mps' or takes_formulas(x)
    if not plain and not isinstance(root, Tensor):
        return _Gap.apply(x, root * root)
    value = 1 - squared_norm(widen(x) * root, keepdim=True)
    return torch.where(value > 0, value, torch.nan)


class _Norm(torch.autograd.Function):
    """Norm along the last dimension, kept; its gradient at the zero vector is 0, at every order."""

    @staticmethod
    def forward(ctx, x: Tensor, dtype: torch.dtype) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=dtype)
        ctx.save_for_backward(x, norm)
        return norm

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, norm = ctx.saved_tensors
        return x * (grad * _reciprocal(norm, x.dtype)).to(x.dtype), None


def _norm_formula(x: Tensor) -> Tensor:
    """:class:`_Norm`, for any kind of differentiation."""
    norm = torch.linalg.vector_norm(x.detach(), dim=-1, keepdim=True)
    nonzero = norm > math.sqrt(torch.finfo(x.dtype).tiny)
    far = torch.linalg.vector_norm(torch.where(nonzero, x, 1), dim=-1, keepdim=True)
    return torch.where(nonzero, far, norm)


def _reciprocal(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``1 / x`` for ``x >= 0``, and 0 where ``1 / x^2`` overflows in a type."""
    nonzero = x > math.sqrt(torch.finfo(dtype).tiny)
    return torch.where(nonzero, 1 / torch.where(nonzero, x, 1), 0)


def safe_norm(x: Tensor, keepdim: bool = False, wide: bool = False) -> Tensor:
    """``|x|`` along the last dimension, with gradient 0 at the zero vector.

    Args:
        x: Vectors ``(..., d)``.
        keepdim: Keep the last dimension, of size 1.
        wide: Norms are those of :func:`widen`, while vectors are kept as they are.

    Returns:
        Norms ``(...)``.
    """
    if takes_formulas(x):
        norm = _norm_formula(widen(x) if wide else x)
    else:
        norm = _Norm.apply(x, torch.float64 if wide and x.device.type != 'mps' else x.dtype)
    return norm if keepdim else norm.squeeze(-1)


def large_norm(x: Tensor, keepdim: bool = False) -> Tensor:
    """:func:`safe_norm` of vectors that may be so long that their squares overflow.

    Args:
        x: Vectors ``(..., d)``; in float32 squares overflow at a length of 1.8e19.
        keepdim: Keep the last dimension, of size 1.

    Returns:
        Norms ``(...)``.
    """
    if is_readable(x):
        norm = safe_norm(x, keepdim=keepdim)
        if norm.isfinite().all():
            return norm
    large = x.detach().abs().amax(-1, keepdim=True) > 1e15
    scale = torch.where(large, 1e20, 1.0).to(x.dtype)
    norm = safe_norm(x / scale, keepdim=True) * scale
    return norm if keepdim else norm.squeeze(-1)


class _Quotient(NamedTuple):
    """``f(x) / x`` for ``x >= 0``, whose slope is ``(f'(x) - f(x) / x) / x``."""

    function: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]  # f'
    series: Callable[[Tensor], Tensor]  # near zero, of x^2
    series_slope: Callable[[Tensor], Tensor]  # its slope over x, of x^2

    def formula(self, x: Tensor) -> Tensor:
        """The quotient, for any kind of differentiation."""
        small = x < _SERIES_RADIUS
        near, far = torch.where(small, x, 0), torch.where(small, 1, x)
        return torch.where(small, self.series(near.square()), self.function(far) / far)

    def __call__(self, x: Tensor) -> Tensor:
        return self.formula(x) if takes_formulas(x) else _Ratio.apply(x, self)

    def gradient(self, x: Tensor, ratio: Tensor) -> Tensor:
        """The slope, where the quotient is known."""
        far = (self.slope(x) - ratio) / x
        near = x * self.series_slope(x.square())
        return torch.where(x < _SERIES_RADIUS, near, far)


class _Ratio(torch.autograd.Function):
    """A :class:`_Quotient` in few calls: it is of one number a point, where they take the time."""

    @staticmethod
    def forward(ctx, x: Tensor, quotient: _Quotient) -> Tensor:
        ratio = quotient.formula(x)
        ctx.quotient = quotient
        ctx.save_for_backward(x, ratio)
        return ratio

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, ratio = ctx.saved_tensors
        if takes_plain_backward(grad):
            return recorded_gradients(ctx.quotient.formula, (x,), grad)[0], None
        return ctx.quotient.gradient(x, ratio) * grad, None


def asinh(x: Tensor) -> Tensor:
    """``asinh(x)`` for ``x >= 0``, by operators that exporters know where code is exported."""
    if not is_exporting():
        return torch.asinh(x)
    return (x + x * x / (1 + (x * x + 1).sqrt())).log1p()


def signed_asinh(x: Tensor) -> Tensor:
    """``asinh(x)`` of any sign, by operators that exporters know where code is exported."""
    return x.sign() * asinh(x.abs()) if is_exporting() else torch.asinh(x)


def log_sinhc(x: Tensor) -> Tensor:
    """``log(sinh(x) / x)`` for ``x >= 0``; 0 at 0, and nothing overflows."""
    small = x < _SERIES_RADIUS
    s, far = torch.where(small, x, 0).square(), torch.where(small, 1, x)
    series = s / 6 * (1 - s / 30 * (1 - s * 4 / 63))
    return torch.where(small, series, far + torch.log(-torch.expm1(-2 * far) / (2 * far)))


_SINHC = _Quotient(
    torch.sinh, torch.cosh, lambda s: 1 + s / 6 * (1 + s / 20), lambda s: 1 / 3 + s / 30
)
_ASINHC = _Quotient(
    asinh,
    lambda x: (1 + x.square()).rsqrt(),
    lambda s: 1 - s / 6 * (1 - s * 9 / 20 * (1 - s * 25 / 42)),
    lambda s: -1 / 3 + s * (3 / 10 - s * 15 / 56),
)
_TANHC = _Quotient(
    torch.tanh,
    lambda x: torch.cosh(x).square().reciprocal(),
    lambda s: 1 - s / 3 * (1 - s * 2 / 5 * (1 - s * 17 / 42)),
    lambda s: -2 / 3 + s * (8 / 15 - s * 34 / 105),
)
_ARTANHC = _Quotient(
    torch.atanh,
    lambda x: (1 - x.square()).reciprocal(),
    lambda s: 1 + s / 3 * (1 + s * 3 / 5 * (1 + s * 5 / 7)),
    lambda s: 2 / 3 + s * (4 / 5 + s * 6 / 7),
)


def sinhc(x: Tensor) -> Tensor:
    """``sinh(x) / x`` for ``x >= 0``; 1 at 0."""
    return _SINHC(x)


def asinhc(x: Tensor) -> Tensor:
    """``asinh(x) / x`` for ``x >= 0``; 1 at 0."""
    return _ASINHC(x)


def tanhc(x: Tensor) -> Tensor:
    """``tanh(x) / x`` for ``x >= 0``; 1 at 0."""
    return _TANHC(x)


def artanhc(x: Tensor) -> Tensor:
    """``artanh(x) / x`` for ``0 <= x < 1``; 1 at 0."""
    return _ARTANHC(x)


class _Radial(torch.autograd.Function):
    """Vectors times a function of their length, with three passes less than the formula."""

    @staticmethod
    def forward(ctx, x: Tensor, root: float | Tensor, quotient: _Quotient) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        r = root * norm
        ratio = quotient.formula(r)
        ctx.quotient, ctx.root = quotient, None if isinstance(root, Tensor) else root
        ctx.save_for_backward(x, norm, r, ratio, *([root] if ctx.root is None else []))
        return x * ratio

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, norm, r, ratio, *rest = ctx.saved_tensors
        root = rest[0] if rest else ctx.root
        if takes_plain_backward(grad):
            formula = partial(_radial_formula, quotient=ctx.quotient)
            return *recorded_gradients(formula, (x, root), grad), None
        slope = (grad * x).sum(-1, keepdim=True) * ctx.quotient.gradient(r, ratio)
        g_root = (slope * norm).sum() if ctx.needs_input_grad[1] else None
        g_x = grad * ratio
        g_x.addcmul_(x, slope * root * _reciprocal(norm, x.dtype))
        return g_x, g_root, None


def _radial_formula(x: Tensor, root: float | Tensor, quotient: _Quotient) -> Tensor:
    return x * quotient(root * safe_norm(x, keepdim=True))


def _radial(x: Tensor, c: Curvature, quotient: _Quotient) -> Tensor:
    root = sqrt(c)
    if isinstance(root, Tensor):
        if root.numel() > 1 or root.dtype != x.dtype:
            return _radial_formula(x, root, quotient)
        root = root.reshape(())
    if takes_formulas(x, root):
        return _radial_formula(x, root, quotient)
    return _Radial.apply(x, root, quotient)


def radial_sinhc(x: Tensor, c: Curvature) -> Tensor:
    """``sinhc(sqrt(c) |x|) x`` of vectors ``(..., d)``."""
    return _radial(x, c, _SINHC)


def radial_asinhc(x: Tensor, c: Curvature) -> Tensor:
    """``asinhc(sqrt(c) |x|) x`` of vectors ``(..., d)``."""
    return _radial(x, c, _ASINHC)


def radial_tanhc(x: Tensor, c: Curvature) -> Tensor:
    """``tanhc(sqrt(c) |x|) x`` of vectors ``(..., d)``."""
    return _radial(x, c, _TANHC)


class _ChordToDistance(torch.autograd.Function):
    """``D(t) = 2 asinh(sqrt(t) / 2)``, ``D'(t) = 1 / sqrt(t (4 + t))``; ``D' = 0`` at ``t = 0``."""

    @staticmethod
    def forward(ctx, t: Tensor) -> Tensor:
        ctx.save_for_backward(t)
        return t.sqrt().mul_((t + 4).sqrt_()).add_(t).mul_(0.5).log1p_()

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (t,) = ctx.saved_tensors
        if not takes_plain_backward(grad):
            slope = t.rsqrt().mul_((t + 4).rsqrt_())
            return slope.mul_(grad).masked_fill_(t == 0, 0)
        apart = t > 0
        far = torch.where(apart, t, 1)
        return torch.where(apart, grad * far.rsqrt() * (far + 4).rsqrt(), 0)


def _chord_to_distance_formula(t: Tensor) -> Tensor:
    """:class:`_ChordToDistance`, for any kind of differentiation."""
    apart = t > 0
    far = torch.where(apart, t, 1)
    return torch.where(apart, (0.5 * (far.sqrt() * (far + 4).sqrt() + far)).log1p(), 0)


def chord_to_distance(t: Tensor) -> Tensor:
    r"""Distance of curvature -1 from the squared chord of the hyperboloid.

    .. math:: d = \operatorname{arcosh}(1 + t/2) = 2 \operatorname{arsinh}(\sqrt{t}/2)
        = \log\!\big(1 + (t + \sqrt{t (4 + t)})/2\big),\qquad
        t = \lVert x - y \rVert_{\mathcal L}^2

    Accurate from coincident points (``t = 0``, gradient 0) to the overflow of ``t``, where the
    textbook ``arcosh(a)`` on ``a = 1 + t/2`` loses everything below ``t = 1e-7`` in float32.

    Args:
        t: Squared Lorentzian chord, ``>= 0``, any shape.

    Returns:
        Distances, same shape.
    """
    return _chord_to_distance_formula(t) if takes_formulas(t) else _ChordToDistance.apply(t)


def angle_between(a: Tensor, b: Tensor) -> Tensor:
    r"""Angle in radians between vectors, exact near 0 and near pi, where arccos is not.

    .. math:: \angle(a, b) = 2 \operatorname{atan2}(\lVert \hat a - \hat b \rVert,
        \lVert \hat a + \hat b \rVert)

    Args:
        a: Vectors ``(..., d)``.
        b: Vectors ``(..., d)``, broadcast with ``a``.

    Returns:
        Angles ``(...)`` in [0, pi]; pi/2, with gradient 0, where a vector is zero.
    """
    a, b = upcast(a, b)
    a, b = unit(a), unit(b)
    defined = (a.square().sum(-1) > 0) & (b.square().sum(-1) > 0)
    angle = 2 * safe_atan2(safe_norm(a - b), safe_norm(a + b))
    return torch.where(defined, angle, math.pi / 2)


def unit(x: Tensor) -> Tensor:
    """``x / |x|`` along the last dimension; the zero vector stays zero, with gradient 0."""
    return x * _reciprocal(safe_norm(x, keepdim=True), x.dtype)


def safe_atan2(y: Tensor, x: Tensor) -> Tensor:
    """``atan2(y, x)`` with value and gradient 0 at the origin."""
    defined = (y != 0) | (x != 0)
    return torch.where(defined, torch.atan2(y, torch.where(defined, x, 1)), 0)


def shares(r: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor]:
    r"""Factors of both ends of a geodesic: :math:`\sinh((1 - t) r) / \sinh r`, and with ``t``.

    Args:
        r: Scaled distances ``(...)``.
        t: Parts, broadcast with them.

    Returns:
        Two tensors ``(...)``; ``1 - t`` and ``t`` where the ends coincide.

    Raises:
        TypeError: If ``t`` is neither a number nor a floating point tensor.
        ValueError: If it is a number that is not finite.
    """
    if isinstance(t, Tensor) and t.is_floating_point():
        t = widen(t)
    elif isinstance(t, (Tensor, bool)) or not isinstance(t, (int, float)):
        what = t.dtype if isinstance(t, Tensor) else type(t).__name__
        raise TypeError(f't must be a number or a floating point tensor, got {what}')
    elif not -math.inf < t < math.inf:  # as in _check_value
        raise ValueError(f't must be finite, got {t}')
    whole = sinhc(r)
    start, end = (part * sinhc((part * r).abs()) / whole for part in (1 - t, t))
    return start, end
