"""Logits of a hyperbolic classifier in few passes over memory.

Those of many pixels and classes are the largest tensor of a segmentor. The function keeps its
result alone for the backward pass, of which slope and lengths follow; compiled code takes the
formula.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function

from . import lorentz
from .fused import to_ambient
from .stable import (
    Curvature,
    check_curvature,
    safe_norm,
    sqrt,
    takes_formulas,
    unit,
    upcast,
    widen,
)

__all__ = ['lorentz_gyroplane_logits', 'lorentz_logits']


_CHUNK = 2**15
"""Elements at once on a processor, where ``torch.asinh`` is one call a number."""


def _asinh_(z: Tensor) -> Tensor:
    """``asinh`` in place: ``sign(z) log1p(a + a^2 / (1 + sqrt(1 + a^2)))``, ``a = |z|``."""
    if z.device.type != 'cpu':
        return z.asinh_()
    flat = z.view(-1)
    for start in range(0, flat.numel(), _CHUNK):
        part = flat[start : start + _CHUNK]
        a = part.abs()
        square = a * a
        below = (square + 1).sqrt_().add_(1)
        part.copy_(square.div_(below).add_(a).log1p_().copysign_(part))
    return z


class _Logits(Function):
    """``s asinh(x w')``; the slope is ``1 / cosh`` of the result over ``s``."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor, s: Tensor) -> Tensor:
        # x (n, 1 + d), w (K, 1 + d), s (K,) -> (n, K)
        out = _asinh_(x @ w.mT).mul_(s)
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
        step = max(1, _CHUNK // len(s)) if out.device.type == 'cpu' else max(len(out), 1)
        for start in range(0, len(out), step):
            rows = slice(start, start + step)
            part = torch.mul(out[rows], inverse, out=slope[rows])
            part.cosh_().reciprocal_().mul_(s).mul_(grad[rows])
            total += (grad[rows] * out[rows]).sum(0)
        return slope @ w, slope.mT @ x, total * inverse


def lorentz_logits(x: Tensor, weight: Tensor, offset: Tensor, c: Curvature) -> Tensor:
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

    Returns:
        Logits ``(..., K)``, in float32 or better.

    Raises:
        ValueError: If ``c`` is a tensor of several elements.
    """
    x, weight, offset = upcast(x, weight, offset)
    c = _one_number(check_curvature(c, x))
    o = (sqrt(c) * offset).unsqueeze(-1)
    planes = torch.cat([-o.sinh(), o.cosh() * unit(weight)], -1)
    return _of_planes(x, planes, safe_norm(weight), c)


def lorentz_gyroplane_logits(x: Tensor, p: Tensor, weight: Tensor, c: Curvature) -> Tensor:
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
    return _of_planes(x, torch.cat([-time, normal], -1), safe_norm(weight), c)


def _one_number(c: Curvature) -> Curvature:
    if not isinstance(c, Tensor):
        return c
    if c.numel() != 1:
        raise ValueError(f'c must be one number, got shape {tuple(c.shape)}')
    return c.reshape(())


def _of_planes(x: Tensor, planes: Tensor, length: Tensor, c: Curvature) -> Tensor:
    """``|w| / sqrt(c) asinh(sqrt(c) n . [x0; x])`` of points and planes ``n (K, 1 + d)``."""
    root = sqrt(c)
    planes, scale = (root * planes).to(x.dtype), (length / root).to(x.dtype)
    with torch.autocast(x.device.type, enabled=False):
        points = to_ambient(x, c).reshape(-1, x.shape[-1] + 1)
        if takes_formulas(points, planes, scale):
            found = torch.asinh(points @ planes.mT) * scale
        else:
            found = _Logits.apply(points, planes, scale)
    return found.view(*x.shape[:-1], len(planes))
