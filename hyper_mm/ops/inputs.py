"""What geometry ops are given: dtypes, curvatures, shapes, and how to take their gradients."""

from __future__ import annotations

import math
from typing import Union

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from ..compat import is_compiling

Curvature = Union[float, Tensor]
"""Absolute sectional curvature ``c > 0``: a float, or a tensor that broadcasts with the points."""

PLAIN = (Tensor, torch.nn.Parameter)
"""Types of tensors whose operations do what they say."""


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


def check_widths(*points: Tensor) -> None:
    """Checks that points have one last dimension: one of 1 would broadcast.

    Args:
        *points: Points and vectors.

    Raises:
        ValueError: If they have not, or are numbers.
    """
    if any(x.ndim == 0 for x in points):
        raise ValueError('points and vectors must be of shape (..., d), got a 0-dimensional tensor')
    widths = [x.shape[-1] for x in points]
    if widths and min(widths) != max(widths):
        raise ValueError(f'points and vectors must have one dimension, got {widths}')


def check_sets(*sets: Tensor) -> None:
    """Checks that points are sets of points, of which all pairs are taken.

    Args:
        *sets: Points ``(..., n, d)``.

    Raises:
        ValueError: If one of them is a single point or a number.
    """
    for x in sets:
        if x.ndim < 2:
            raise ValueError(f'points must be of shape (..., n, d), got {tuple(x.shape)}')


def check_curvature(
    c: Curvature, *points: Tensor, name: str = 'c', shared: bool = False
) -> Curvature:
    """Validates a curvature argument, and that points have one number of dimensions.

    The shape of a tensor is always checked, since that costs nothing. Its values are read only
    where that is cheap: on a processor and outside of compiled, traced and transformed code. On an
    accelerator it would stall the device at every op.

    Args:
        c: Positive float, or a tensor: of one element, or of at least the points' rank with a last
            dimension of 1. A lower rank would line up with other dimensions of the points.
        *points: Points that it belongs to.
        name: Name of the argument in the message.
        shared: The points of the last but one dimension live in one space, so that ``c`` has a size
            of 1 there.

    Returns:
        ``c`` itself; a half precision tensor in float32.

    Raises:
        ValueError: If it is not positive and finite, the shape of a tensor does not fit, or points
            are numbers or differ in their last dimension, which would broadcast.
        TypeError: If it is neither a number nor a floating point tensor.
    """
    check_widths(*points)
    if isinstance(c, Tensor):
        if not c.is_floating_point():
            raise TypeError(f'{name} must be a floating point tensor, got {c.dtype}')
        _check_shape(c, max([0] + [x.ndim for x in points]), name, shared)
        if is_readable(c):
            low, high = (c.detach(),) * 2 if c.numel() == 1 else c.detach().aminmax()
            for value in (low.item(), high.item()):
                _check_value(value, name)
        return c.to(torch.promote_types(c.dtype, torch.float32))
    if isinstance(c, (int, float)) and not isinstance(c, bool):
        _check_value(c, name)
        return c
    raise TypeError(f'{name} must be a float or a tensor, got {type(c).__name__}')


def _check_value(value: float, name: str) -> None:
    if not 0 < value < math.inf:  # compiled code cannot ask a symbolic number whether it is finite
        raise ValueError(f'{name} must be positive and finite, got {value} (the curvature is -c)')


def _check_shape(c: Tensor, rank: int, name: str, shared: bool) -> None:
    if c.numel() == 1 and c.ndim <= max(rank, 1):
        return
    shape = f'got shape {tuple(c.shape)}'
    if c.ndim == 0 or c.shape[-1] != 1:
        raise ValueError(
            f'{name} must be 0-dimensional or end in a dimension of size 1 to broadcast with '
            f'points (..., d), {shape}'
        )
    if c.ndim < rank:
        raise ValueError(
            f'{name} must have one element or the {rank} dimensions of the points, {shape}: it '
            'would broadcast along other dimensions than meant'
        )
    if shared and (c.ndim < 2 or c.shape[-2] != 1):
        raise ValueError(
            f'{name} must have shape (..., 1, 1), one value for all points (..., n, d) of a set, '
            f'{shape}'
        )


def takes_formulas(*tensors: object) -> bool:
    """Whether plain formulas are to run in place of functions with gradients of their own.

    So it is in compiled and traced code, under the transforms of :mod:`torch.func` (`vmap`,
    `jacfwd`, `hessian`, ...), and for tensors that carry forward-mode tangents: all of them
    differentiate any formula, to any order. The functions save the memory of eager training.
    """
    if is_compiling():
        return True
    if torch._C._are_functorch_transforms_active():
        return True
    return any(unpack_dual(x).tangent is not None for x in tensors if isinstance(x, Tensor))


def is_readable(x: Tensor) -> bool:
    """Whether the values of a tensor can be read at once: on a processor, in eager code."""
    return x.device.type == 'cpu' and x.numel() > 0 and type(x) in PLAIN and not takes_formulas()


def sqrt(c: Curvature) -> Curvature:
    """Square root of a float or a tensor."""
    return c.sqrt() if isinstance(c, Tensor) else math.sqrt(c)


def wide_sqrt(c: Curvature) -> Curvature:
    """Square root of a curvature in the accumulation dtype of :func:`widen`."""
    return widen(c).sqrt() if isinstance(c, Tensor) else math.sqrt(c)


def per_point(c: Curvature) -> Curvature:
    """Drops the last dimension of a curvature, to broadcast with one number a point."""
    return c.squeeze(-1) if isinstance(c, Tensor) and c.ndim else c
