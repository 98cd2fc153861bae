"""Numerical building blocks of the geometry ops.

Everything here is total: finite values and finite gradients on the documented domain, including
zero vectors and coincident points, and usable twice (every backward is itself differentiable).
"""

from __future__ import annotations

import math
from typing import Union

import torch
from torch import Tensor

from ..compat import is_exporting

Curvature = Union[float, Tensor]
"""Absolute sectional curvature ``c > 0``: a float, or a tensor that broadcasts with the points."""

_SERIES_RADIUS = 1e-2


def upcast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Promotes tensors to one common dtype of at least float32.

    Args:
        *tensors: Floating point tensors; float16 and bfloat16 become float32.

    Returns:
        The tensors in their common dtype.

    Raises:
        TypeError: If one of them is not a floating point tensor.
    """
    dtype = torch.float32
    for tensor in tensors:
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            what = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f'geometry ops need floating point tensors, got {what}')
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)


def widen(tensor: Tensor) -> Tensor:
    """Casts to the dtype in which sums over matrix products are accumulated: float64.

    A squared distance from a matrix product is a difference of large numbers. float32 leaves
    nothing of it for close points, and TF32 less than nothing; float64 leaves all that float32
    inputs hold. Devices without float64 (MPS) accumulate in float32.
    """
    return tensor if tensor.device.type == 'mps' else tensor.double()


def check_curvature(c: Curvature, name: str = 'c') -> Curvature:
    """Validates a curvature argument.

    Args:
        c: Positive float, or a tensor: 0-dimensional, or of the points' rank with a last
            dimension of 1. The values of tensors are not read (that would stall an accelerator).
        name: Name of the argument in the message.

    Returns:
        ``c`` itself; a half precision tensor in float32.

    Raises:
        ValueError: If a float is not positive and finite, or a tensor does not end in 1.
        TypeError: If it is neither a number nor a floating point tensor.
    """
    if isinstance(c, Tensor):
        if not c.is_floating_point():
            raise TypeError(f'{name} must be a floating point tensor, got {c.dtype}')
        if c.ndim and c.shape[-1] != 1:
            raise ValueError(
                f'{name} must be 0-dimensional or end in a dimension of size 1 to broadcast with '
                f'points (..., d), got shape {tuple(c.shape)}'
            )
        return c.to(torch.promote_types(c.dtype, torch.float32))
    if isinstance(c, (int, float)) and not isinstance(c, bool):
        if not (c > 0 and math.isfinite(c)):
            raise ValueError(f'{name} must be positive and finite, got {c} (the curvature is -c)')
        return c
    raise TypeError(f'{name} must be a float or a tensor, got {type(c).__name__}')


def sqrt(c: Curvature) -> Curvature:
    """Square root of a float or a tensor."""
    return c.sqrt() if isinstance(c, Tensor) else math.sqrt(c)


def wide_sqrt(c: Curvature) -> Curvature:
    """Square root of a curvature in the accumulation dtype of :func:`widen`."""
    return widen(c).sqrt() if isinstance(c, Tensor) else math.sqrt(c)


def per_point(c: Curvature) -> Curvature:
    """Drops the last dimension of a curvature, to broadcast with one number a point."""
    return c.squeeze(-1) if isinstance(c, Tensor) and c.ndim else c


def squared_norm(x: Tensor, keepdim: bool = False) -> Tensor:
    """``|x|^2`` along the last dimension."""
    return x.square().sum(-1, keepdim=keepdim)


class _Norm(torch.autograd.Function):
    """Norm along the last dimension, kept; its gradient at the zero vector is 0, at every order."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(x, dim=-1, keepdim=True)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        x, norm = ctx.saved_tensors
        return x * (grad * _reciprocal(norm))


def _reciprocal(x: Tensor) -> Tensor:
    """``1 / x`` for ``x >= 0``, and 0 where ``1 / x^2`` overflows."""
    nonzero = x > math.sqrt(torch.finfo(x.dtype).tiny)
    return torch.where(nonzero, 1 / torch.where(nonzero, x, 1), 0)


def safe_norm(x: Tensor, keepdim: bool = False) -> Tensor:
    """``|x|`` along the last dimension, with gradient 0 at the zero vector."""
    norm = _Norm.apply(x)
    return norm if keepdim else norm.squeeze(-1)


def _ratio(x: Tensor, function, series) -> Tensor:
    """``function(x) / x`` for ``x >= 0``, by ``series(x^2)`` near zero."""
    small = x < _SERIES_RADIUS
    near, far = torch.where(small, x, 0), torch.where(small, 1, x)
    return torch.where(small, series(near.square()), function(far) / far)


def sinhc(x: Tensor) -> Tensor:
    """``sinh(x) / x`` for ``x >= 0``; 1 at 0."""
    return _ratio(x, torch.sinh, lambda s: 1 + s / 6 * (1 + s / 20))


def asinh(x: Tensor) -> Tensor:
    """``asinh(x)`` for ``x >= 0``, by operators that exporters know where code is exported."""
    if not is_exporting():
        return torch.asinh(x)
    return (x + x * x / (1 + (x * x + 1).sqrt())).log1p()


def asinhc(x: Tensor) -> Tensor:
    """``asinh(x) / x`` for ``x >= 0``; 1 at 0."""
    return _ratio(x, asinh, lambda s: 1 - s / 6 * (1 - s * 9 / 20 * (1 - s * 25 / 42)))


def tanhc(x: Tensor) -> Tensor:
    """``tanh(x) / x`` for ``x >= 0``; 1 at 0."""
    return _ratio(x, torch.tanh, lambda s: 1 - s / 3 * (1 - s * 2 / 5 * (1 - s * 17 / 42)))


def artanhc(x: Tensor) -> Tensor:
    """``artanh(x) / x`` for ``0 <= x < 1``; 1 at 0."""
    return _ratio(x, torch.atanh, lambda s: 1 + s / 3 * (1 + s * 3 / 5 * (1 + s * 5 / 7)))


class _ChordToDistance(torch.autograd.Function):
    """``D(t) = 2 asinh(sqrt(t) / 2)``, ``D'(t) = 1 / sqrt(t (4 + t))``; ``D' = 0`` at ``t = 0``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(t: Tensor) -> Tensor:
        half = t.sqrt().mul_((t + 4).sqrt_()).add_(t).mul_(0.5)
        # torch.compile loses the gradient of an output that was made in place
        return half.log1p()

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (t,) = ctx.saved_tensors
        if not torch.is_grad_enabled():
            slope = t.rsqrt().mul_((t + 4).rsqrt_())
            return slope.mul_(grad).masked_fill_(t == 0, 0)
        apart = t > 0
        far = torch.where(apart, t, 1)
        return torch.where(apart, grad * far.rsqrt() * (far + 4).rsqrt(), 0)


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
    return _ChordToDistance.apply(t)


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
    return x * _reciprocal(safe_norm(x, keepdim=True))


def safe_atan2(y: Tensor, x: Tensor) -> Tensor:
    """``atan2(y, x)`` with value and gradient 0 at the origin."""
    defined = (y != 0) | (x != 0)
    return torch.where(defined, torch.atan2(y, torch.where(defined, x, 1)), 0)
