"""Logits of a hyperbolic classifier in few passes over memory.

Those of many pixels and classes are the largest tensor of a segmentor. Nothing of that size is kept
for the backward pass: products are computed again there, some rows at a time, which stay in a
processor's caches and take less time than memory does. Compiled code takes the formula.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from . import lorentz
from .backward import recorded_gradients, takes_plain_backward
from .inputs import Curvature, check_curvature, sqrt, takes_formulas, upcast, widen
from .stable import large_norm, safe_norm, signed_asinh, sinhc, unit

__all__ = ['Points', 'clipped_points', 'lorentz_gyroplane_logits', 'lorentz_logits']

_CHUNK = 2**18
"""Numbers in memory at once and thread on a processor: 1 MB in float32."""

_LARGE = 2**24
"""Numbers in memory at once on an accelerator."""

_ROWS = 64
"""Least number of rows of a matrix product."""


class Points(NamedTuple):
    """Points as multiples of vectors: the ambient ones are ``[time; space x]``.

    Attributes:
        x: Vectors ``(..., d)``.
        space: Factors ``(...)``, of the dtype that products are computed in.
        time: Times ``(...)``, of the same dtype.
    """

    x: Tensor
    space: Tensor
    time: Tensor


def clipped_points(
    x: Tensor, factor: Tensor, c: Curvature, max_radius: float | None, wide: bool = False
) -> Points:
    r"""Points of features: a factor, a limit of the length, and the exponential map.

    .. math:: \exp_0\!\big(\min(1, \tfrac{R}{\sqrt c\, f \lVert u \rVert})\, f u\big)

    Args:
        x: Vectors ``u`` ``(..., d)``.
        factor: ``f > 0``, of one element.
        c: Curvature: float or a tensor of one element.
        max_radius: ``R``, the largest scaled distance from the origin; None for none.
        wide: Products are computed in float64.

    Returns:
        The points, with factors in float32 or better.
    """
    (x,) = upcast(x)
    root = sqrt(_one_number(check_curvature(c, x)))
    clips = max_radius is not None and not wide  # what is clipped may be of any length
    norm = large_norm(x) if clips else safe_norm(x, wide=wide)
    factor = factor.reshape(()).to(x.dtype)
    if wide:
        root = widen(root) if isinstance(root, Tensor) else root
        factor = widen(factor)
    r = root * factor * norm
    if max_radius is None:
        return Points(x, factor * sinhc(r), r.cosh() / root)
    beyond = r > max_radius
    r = torch.where(beyond, max_radius, r)
    limit = math.sinh(max_radius) / (root * torch.where(beyond, norm, 1))
    space = torch.where(beyond, limit, factor * sinhc(r))
    return Points(x, space, r.cosh() / root)


def asinh(z: Tensor, root: Tensor, room: Tensor, spare: Tensor) -> Tensor:
    """``asinh`` in passes over tensors: on processors ``torch.asinh`` is one call a number.

    ``sign(z) log(1 + |z| + |z| (|z| / (1 + sqrt(1 + z^2))))``, to a few roundings of the result
    where ``z^2`` does not overflow.

    Args:
        z: Numbers.
        root: Of the same shape; there ``sqrt(1 + z^2)`` is written.
        room: Of the same shape; there the result is written.
        spare: Of the same shape, written over: new memory in each piece would take longer.

    Returns:
        The result.
    """
    torch.mul(z, z, out=root).add_(1).sqrt_()
    size = torch.abs(z, out=room)
    torch.div(size, torch.add(root, 1, out=spare), out=spare)
    return size.addcmul_(size, spare).log1p_().copysign_(z)


class _Logits(Function):
    """``s asinh(z)`` with ``z = [x a; t] n'``; its slope is ``s / sqrt(1 + z^2)``."""

    @staticmethod
    def forward(ctx, x: Tensor, space: Tensor, time: Tensor, planes: Tensor, scale: Tensor):
        # x (n, d), space and time (n,), planes (K, d + 1), scale (K,) -> (n, K)
        ctx.save_for_backward(x, space, time, planes, scale)
        out = x.new_empty(len(x), len(planes))
        for (part, *given), (z, *rooms, points) in _pieces(planes, out, x, space, time):
            torch.mm(_ambient(points, *given), planes.mT, out=z)
            torch.mul(asinh(z, *rooms), scale, out=part)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, space, time, planes, scale = inputs = ctx.saved_tensors
        if takes_plain_backward(grad):
            return recorded_gradients(_formula, inputs, grad)
        found = [torch.empty_like(t) for t in (x, space, time)]
        g_planes, g_scale = torch.zeros_like(planes), torch.zeros_like(scale)
        normals, last = planes[:, :-1].contiguous(), planes[:, -1].contiguous()
        for (g, *parts), (z, root, room, spare, points) in _pieces(
            planes, grad, *found, x, space, time
        ):
            (g_x, g_space, g_time), given = parts[:3], parts[3:]
            torch.mm(_ambient(points, *given), planes.mT, out=z)
            value = asinh(z, root, room, spare)
            g_scale += value.mul_(g).sum(0)
            slope = torch.mul(g, scale, out=z).div_(root)
            g_planes.addmm_(slope.mT, points)
            pull = slope @ normals
            torch.mv(slope, last, out=g_time)
            torch.mul(pull, given[1].unsqueeze(-1), out=g_x)
            torch.sum(pull.mul_(given[0]), -1, out=g_space)
        return *found, g_planes, g_scale


class _PointLogits(Function):
    """:class:`_Logits` of points of the hyperboloid, whose times are functions of them."""

    @staticmethod
    def forward(ctx, x: Tensor, planes: Tensor, scale: Tensor, c: float):
        time = torch.linalg.vector_norm(x, dim=-1).square_().add_(1 / c).sqrt_()
        ctx.c = c
        ctx.save_for_backward(x, time, planes, scale)
        out = x.new_empty(len(x), len(planes))
        for (part, *given), (z, *rooms, _) in _pieces(planes, out, x, time):
            torch.mul(asinh(_products(z, planes, *given), *rooms), scale, out=part)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, time, planes, scale = ctx.saved_tensors
        if takes_plain_backward(grad):
            return recorded_gradients(_formula_of_points, (x, planes, scale, ctx.c), grad)
        g_x, g_scale = torch.empty_like(x), torch.zeros_like(scale)
        normals, last = planes[:, :-1].contiguous(), planes[:, -1].contiguous()
        g_normals, g_last = torch.zeros_like(normals), torch.zeros_like(last)
        for (g, out, *given), (z, root, room, spare, _) in _pieces(planes, grad, g_x, x, time):
            value = asinh(_products(z, planes, *given), root, room, spare)
            g_scale += value.mul_(g).sum(0)
            slope = torch.mul(g, scale, out=z).div_(root)
            g_normals.addmm_(slope.mT, given[0])
            g_last.addmv_(slope.mT, given[1])
            along = torch.mv(slope, last).div_(given[1])
            torch.mm(slope, normals, out=out).addcmul_(given[0], along.unsqueeze(-1))
        return g_x, torch.cat([g_normals, g_last.unsqueeze(-1)], 1), g_scale, None


def _products(out: Tensor, planes: Tensor, x: Tensor, time: Tensor) -> Tensor:
    """Products of ambient points, time last, with planes."""
    return torch.mm(x, planes[:, :-1].mT, out=out).addr_(time, planes[:, -1])


def _pieces(planes: Tensor, *tensors: Tensor) -> Iterator[tuple]:
    """Yields pieces of tensors ``(n, ...)``, and room for logits and points of as many rows."""
    classes, width = planes.shape
    numbers = _CHUNK * torch.get_num_threads() if planes.device.type == 'cpu' else _LARGE
    n = max(len(tensors[0]), 1)
    step = min(max(numbers // (4 * classes + width), _ROWS), n)
    step = math.ceil(n / math.ceil(n / step))  # pieces of one height
    rooms = [*planes.new_empty(4, step, classes), planes.new_empty(step, width)]
    for parts in zip(*(t.split(step) for t in tensors)):
        if len(parts[0]) < step:
            rooms = [room[: len(parts[0])] for room in rooms]
        yield parts, rooms


def _ambient(out: Tensor, x: Tensor, space: Tensor, time: Tensor) -> Tensor:
    """Ambient points, time last."""
    torch.mul(x, space.unsqueeze(-1), out=out[:, :-1])
    out[:, -1] = time
    return out


def _formula(x: Tensor, space: Tensor, time: Tensor, planes: Tensor, scale: Tensor) -> Tensor:
    """:class:`_Logits`, for any kind of differentiation."""
    points = torch.cat([x * space.unsqueeze(-1), time.unsqueeze(-1)], -1)
    return (signed_asinh(points @ planes.mT) * scale).to(x.dtype)


def _formula_of_points(x: Tensor, planes: Tensor, scale: Tensor, c: float) -> Tensor:
    time = lorentz.time(x, c)
    return _formula(x, torch.ones_like(time), time, planes, scale)


def lorentz_logits(x: Tensor | Points, weight: Tensor, offset: Tensor, c: Curvature) -> Tensor:
    r"""Lengths of normals times signed distances of points to hyperplanes.

    .. math:: \ell_k(x) = \lVert w_k \rVert\, d(x, H_{w_k, o_k})

    see :func:`hyper_mm.ops.hyperplanes.lorentz_pairwise_hyperplane_dist`, which is exact further
    out: the product here is of the points' dtype, with an error of ``eps exp(r + sqrt(c) |o|)`` at
    the scaled radius ``r``.

    Args:
        x: Points: space components ``(..., d)``, or multiples of vectors.
        weight: Normals ``(K, d)``.
        offset: Signed distances of the hyperplanes from the origin ``(K,)``.
        c: Curvature: float or a tensor of one element.

    Returns:
        Logits ``(..., K)``, in float32 or better.

    Raises:
        ValueError: If ``c`` is a tensor of several elements, or shapes do not fit.
    """
    if weight.ndim != 2 or offset.shape != weight.shape[:1]:
        raise ValueError(
            'weight and offset must be of shape (K, d) and (K,), got '
            f'{tuple(weight.shape)} and {tuple(offset.shape)}'
        )
    c = _check(x, c, weight.shape[-1])
    weight, offset = (widen(t) for t in upcast(weight, offset))
    o = (sqrt(c) * offset).unsqueeze(-1)
    planes = torch.cat([o.cosh() * unit(weight), -o.sinh()], -1)
    return _of_planes(x, planes, safe_norm(weight), c)


def lorentz_gyroplane_logits(x: Tensor | Points, p: Tensor, weight: Tensor, c: Curvature) -> Tensor:
    r"""Lengths of normals times signed distances of points to hyperplanes through points.

    .. math:: \ell_k(x) = \frac{\lVert w_k \rVert}{\sqrt c} \operatorname{arsinh}\!\big(\sqrt c\,
        \langle P_{0 \to p_k}(\hat w_k), x \rangle_{\mathcal L}\big)

    :func:`hyper_mm.ops.hyperplanes.gyroplane_dist` of points of the hyperboloid, with normals that
    are transported from the origin; precise as far out as :func:`lorentz_logits`.

    Args:
        x: Points: space components ``(..., d)``, or multiples of vectors.
        p: Points on the hyperplanes ``(K, d)``.
        weight: Normals at the origin ``(K, d)``.
        c: Curvature: float or a tensor of one element.

    Returns:
        Logits ``(..., K)``, in float32 or better.

    Raises:
        ValueError: If ``c`` is a tensor of several elements, or shapes do not fit.
    """
    if weight.ndim != 2 or p.shape != weight.shape:
        raise ValueError(
            f'p and weight must be of one shape (K, d), got {tuple(p.shape)} and '
            f'{tuple(weight.shape)}'
        )
    c = _check(x, c, weight.shape[-1])
    p, weight = (widen(t) for t in upcast(p, weight))
    normal = lorentz.transport0(p, unit(weight), c)  # (K, d), of length 1
    time = (p * normal).sum(-1, keepdim=True) / lorentz.time(p, c, keepdim=True)
    return _of_planes(x, torch.cat([normal, -time], -1), safe_norm(weight), c)


def _check(x: Tensor | Points, c: Curvature, width: int) -> Curvature:
    vectors = x.x if isinstance(x, Points) else x
    if vectors.ndim == 0 or vectors.shape[-1] != width:
        raise ValueError(f'x must have {width} dimensions, got shape {tuple(vectors.shape)}')
    return _one_number(check_curvature(c, vectors))


def _one_number(c: Curvature) -> Curvature:
    if not isinstance(c, Tensor):
        return c
    if c.numel() != 1:
        raise ValueError(f'c must be one number, got shape {tuple(c.shape)}')
    return c.reshape(())


def _of_planes(x: Tensor | Points, planes: Tensor, length: Tensor, c: Curvature) -> Tensor:
    """``|w| / sqrt(c) asinh(sqrt(c) [x; x0] . n)`` of points and planes ``n (K, d + 1)``."""
    root = sqrt(c)
    if isinstance(x, Tensor):
        (x,) = upcast(x)
        if not isinstance(c, Tensor) and not takes_formulas(x, planes, length):
            with torch.autocast(x.device.type, enabled=False):
                rows = x.reshape(-1, x.shape[-1])
                planes, scale = ((root * planes).to(x.dtype), (length / root).to(x.dtype))
                return _PointLogits.apply(rows, planes, scale, c).view(*x.shape[:-1], len(planes))
        time = lorentz.time(x, c)
        x = Points(x, torch.ones_like(time), time)
    vectors, space, time = x
    planes, scale = (root * planes).to(space.dtype), (length / root).to(space.dtype)
    with torch.autocast(vectors.device.type, enabled=False):
        rows = vectors.reshape(-1, vectors.shape[-1])
        inputs = rows, space.reshape(-1), time.reshape(-1), planes, scale
        found = _formula(*inputs) if takes_formulas(*inputs) else _Logits.apply(*inputs)
    return found.view(*vectors.shape[:-1], len(planes))
