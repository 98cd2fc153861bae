"""Logits of a hyperbolic classifier in few passes over memory.

Those of many pixels and classes are the largest tensor of a segmentor. The function keeps its
result alone for the backward pass, of which slope and lengths follow; compiled code takes the
formula.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd import Function

from . import lorentz
from .fused import to_ambient
from .stable import (
    Curvature,
    check_curvature,
    recorded_gradients,
    safe_norm,
    sinhc,
    sqrt,
    takes_formulas,
    unit,
    upcast,
    widen,
)

__all__ = ['clipped_ambient', 'lorentz_gyroplane_logits', 'lorentz_logits']


_CHUNK = 2**15
"""Elements at once on a processor, where ``torch.asinh`` is one call a number."""


def asinh_(z: Tensor) -> Tensor:
    """``asinh`` in place: ``sign(z) log(|z| + sqrt(1 + z^2))``, to an absolute error of a rounding.

    That is what the product ``z`` has already; a relative one takes half as many passes again.
    """
    if z.device.type != 'cpu':
        return z.asinh_()
    flat, one = z.view(-1), z.new_ones(())
    step = _CHUNK * torch.get_num_threads()
    for part in flat.split(step):
        root = torch.addcmul(one, part, part).sqrt_()
        torch.copysign(root.add_(part.abs()).log_(), part, out=part)
    return z


class _Logits(Function):
    """``s asinh(x w')``; the slope is ``1 / cosh`` of the result over ``s``."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor, s: Tensor) -> Tensor:
        # x (n, 1 + d), w (K, 1 + d), s (K,) -> (n, K)
        out = asinh_(x @ w.mT).mul_(s)
        ctx.save_for_backward(x, w, s, out)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, w, s, out = ctx.saved_tensors
        # a class of length 0 has no gradient: its result does not say where it was
        inverse = torch.where(s > 0, 1 / torch.where(s > 0, s, 1), 0)
        if torch.is_grad_enabled():  # to be differentiated again: out stands for the inputs
            slope = grad * s / (out * inverse).cosh()
            return slope @ w, slope.mT @ x, (grad * out).sum(0) * inverse
        slope, total = torch.empty_like(out), torch.zeros_like(s)
        step = max(len(out), 1)
        if out.device.type == 'cpu':
            step = max(1, _CHUNK * torch.get_num_threads() // len(s))
        for part, g, o in zip(*(t.split(step) for t in (slope, grad, out))):
            total += torch.mul(g, o, out=part).sum(0)
            below = (o * inverse).cosh_()
            torch.mul(g, s, out=part).div_(below)
        return slope @ w, slope.mT @ x, total * inverse


def _lift_factors(
    norm: Tensor, factor: Tensor | float, c: Curvature, limit: float
) -> tuple[Tensor, Tensor]:
    """Of vectors of that length ``(n,)``, the factor of the space components and the time."""
    root = sqrt(c)
    r = root * factor * norm
    beyond = r > limit
    r = torch.where(beyond, limit, r)
    longer = torch.where(beyond, norm, 1)
    space = torch.where(beyond, math.sinh(limit) / (root * longer), factor * sinhc(r))
    return space, r.cosh() / root


class _Lift(Function):
    """Vectors ``(n, d)`` to ambient points; keeps the vectors, which the layer before keeps too."""

    @staticmethod
    def forward(ctx, x: Tensor, factor: Tensor, c, limit: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1)
        space, time = _lift_factors(norm, factor, c, limit)
        out = x.new_empty(len(x), x.shape[1] + 1)
        out[:, 0] = time
        torch.mul(x, space.unsqueeze(-1), out=out[:, 1:])
        ctx.c, ctx.limit = c, limit
        ctx.save_for_backward(x, norm, factor)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, norm, factor = ctx.saved_tensors
        if torch.is_grad_enabled():
            inputs = x, factor, ctx.c, ctx.limit
            return recorded_gradients(_lift_formula, inputs, grad)
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in (norm, factor)]
            c = ctx.c
            if isinstance(c, Tensor):
                c = c.detach().requires_grad_()
                leaves.append(c)
            columns = _lift_factors(leaves[0], leaves[1], c, ctx.limit)
        pull = torch.linalg.vecdot(grad[:, 1:], x)
        g_norm, g_factor, *g_c = torch.autograd.grad(columns, leaves, (pull, grad[:, 0]))
        g_x = grad[:, 1:] * columns[0].detach().unsqueeze(-1)
        nonzero = norm > 0
        ratio = torch.where(nonzero, g_norm / torch.where(nonzero, norm, 1), 0)
        return g_x.addcmul_(x, ratio.unsqueeze(-1)), g_factor, g_c[0] if g_c else None, None


def _lift_formula(x: Tensor, factor: Tensor, c: Curvature, limit: float) -> Tensor:
    """:class:`_Lift`, for any kind of differentiation."""
    norm = safe_norm(x)
    space, time = _lift_factors(norm, factor, c, limit)
    return torch.cat([time.unsqueeze(-1), x * space.unsqueeze(-1)], -1)


def clipped_ambient(x: Tensor, factor: Tensor, c: Curvature, max_radius: float) -> Tensor:
    r"""Ambient points of features: a factor, a limit of the length, and the exponential map.

    .. math:: [x_0;\, x] = \exp_0\!\big(\min(1, \tfrac{R}{\sqrt c\, f \lVert u \rVert})\, f u\big)

    Args:
        x: Vectors ``u`` ``(..., d)``.
        factor: ``f > 0``, of one element.
        c: Curvature: float or a tensor of one element.
        max_radius: ``R``, the largest scaled distance from the origin.

    Returns:
        ``(..., 1 + d)``, time first, in float32 or better.
    """
    (x,) = upcast(x)
    c = _one_number(check_curvature(c, x))
    flat, factor = x.reshape(-1, x.shape[-1]), factor.reshape(()).to(x.dtype)
    c = c.to(x.dtype) if isinstance(c, Tensor) else c
    if takes_formulas(flat, factor, c) or not x.numel():
        out = _lift_formula(flat, factor, c, max_radius)
    else:
        out = _Lift.apply(flat, factor, c, max_radius)
    return out.view(*x.shape[:-1], x.shape[-1] + 1)


def lorentz_logits(
    x: Tensor, weight: Tensor, offset: Tensor, c: Curvature, ambient: bool = False
) -> Tensor:
    r"""Lengths of normals times signed distances of points to hyperplanes.

    .. math:: \ell_k(x) = \lVert w_k \rVert\, d(x, H_{w_k, o_k})

    see :func:`hyper_mm.ops.hyperplanes.lorentz_pairwise_hyperplane_dist`, which is exact further
    out: the product here is of the inputs' dtype, with an error of ``eps exp(r + sqrt(c) |o|)`` at
    the scaled radius ``r``.

    Args:
        x: Points ``(..., d)``.
        weight: Normals ``(K, d)``.
        offset: Signed distances of the hyperplanes from the origin ``(K,)``.
        c: Curvature: float or a tensor of one element.
        ambient: The points are ambient ones ``(..., 1 + d)``, time first.

    Returns:
        Logits ``(..., K)``, in float32 or better.

    Raises:
        ValueError: If ``c`` is a tensor of several elements.
    """
    x, weight, offset = upcast(x, weight, offset)
    c = _one_number(check_curvature(c, x))
    o = (sqrt(c) * offset).unsqueeze(-1)
    planes = torch.cat([-o.sinh(), o.cosh() * unit(weight)], -1)
    return _of_planes(x, planes, safe_norm(weight), c, ambient)


def lorentz_gyroplane_logits(
    x: Tensor, p: Tensor, weight: Tensor, c: Curvature, ambient: bool = False
) -> Tensor:
    r"""Lengths of normals times signed distances of points to hyperplanes through points.

    .. math:: \ell_k(x) = \frac{\lVert w_k \rVert}{\sqrt c} \operatorname{arsinh}\!\big(\sqrt c\,
        \langle P_{0 \to p_k}(\hat w_k), x \rangle_{\mathcal L}\big)

    :func:`hyper_mm.ops.hyperplanes.gyroplane_dist` of points of the hyperboloid, with normals that
    are transported from the origin; precise as far out as :func:`lorentz_logits`.

    Args:
        x: Points ``(..., d)``.
        p: Points on the hyperplanes ``(K, d)``.
        weight: Normals at the origin ``(K, d)``.
        c: Curvature: float or a tensor of one element.
        ambient: The points are ambient ones ``(..., 1 + d)``, time first.

    Returns:
        Logits ``(..., K)``, in float32 or better.

    Raises:
        ValueError: If ``c`` is a tensor of several elements.
    """
    x, p, weight = upcast(x, p, weight)
    c = _one_number(check_curvature(c, x))
    p = widen(p)
    normal = lorentz.transport0(p, unit(widen(weight)), c)  # (K, d), of length 1
    time = (p * normal).sum(-1, keepdim=True) / lorentz.time(p, c, keepdim=True)
    return _of_planes(x, torch.cat([-time, normal], -1), safe_norm(weight), c, ambient)


def _one_number(c: Curvature) -> Curvature:
    if not isinstance(c, Tensor):
        return c
    if c.numel() != 1:
        raise ValueError(f'c must be one number, got shape {tuple(c.shape)}')
    return c.reshape(())


def _of_planes(x: Tensor, planes: Tensor, length: Tensor, c: Curvature, ambient: bool) -> Tensor:
    """``|w| / sqrt(c) asinh(sqrt(c) n . [x0; x])`` of points and planes ``n (K, 1 + d)``."""
    root = sqrt(c)
    planes, scale = (root * planes).to(x.dtype), (length / root).to(x.dtype)
    with torch.autocast(x.device.type, enabled=False):
        points = x if ambient else to_ambient(x, c)
        points = points.reshape(-1, planes.shape[1])
        if takes_formulas(points, planes, scale):
            found = torch.asinh(points @ planes.mT) * scale
        else:
            found = _Logits.apply(points, planes, scale)
    return found.view(*x.shape[:-1], len(planes))
