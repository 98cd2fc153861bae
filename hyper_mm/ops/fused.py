"""Geometry of language models in few passes over memory: values and hand-written gradients.

The functions equal short formulas of :mod:`hyper_mm.ops.lorentz` (the tests compare them), of which
automatic differentiation would keep every term and go over all of them again. Here a function keeps
its inputs, or its result where a matrix product keeps that anyway. Where the gradients are to be
differentiated again (`create_graph=True`), the backward pass takes operations that autograd
records: of the inputs where they are kept, by the formulas; of the result otherwise, which is a
function of the inputs, too. Compiled code takes the formulas themselves,
:mod:`hyper_mm.ops.unfused`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from ..deprecation import renamed_attributes
from . import unfused
from .backward import recorded_gradients, takes_plain_backward
from .inputs import Curvature, check_curvature, takes_formulas, upcast

_CHUNK = 2**17
"""Elements of a tensor that a CPU goes over at once: what passes between stays in caches."""

_SMALL = 2**14
"""Elements, a few tokens, up to which calls take longer than memory."""


class _Forgetful:
    """Context of a forward pass that has no backward pass."""

    def save_for_backward(self, *_) -> None:
        pass

    def mark_non_differentiable(self, *_) -> None:
        pass

    def set_materialize_grads(self, _) -> None:
        pass


def _run(function: type[Function], *args):
    """Result of a function; without gradients the bookkeeping would take longer than one token."""
    if torch.is_grad_enabled():
        return function.apply(*args)
    return function.forward(_Forgetful(), *args)


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def _time(x: Tensor, k: Curvature) -> Tensor:
    """Time parts ``(..., 1)``; ``k`` is ``1 / c``."""
    norm = _norm(x)
    return norm.mul_(norm).add_(k).sqrt_()


def _to(grad: Curvature, like: Curvature | None) -> Tensor | None:
    """Sums a gradient to the shape of what it belongs to."""
    if not isinstance(like, Tensor) or not isinstance(grad, Tensor):
        return None
    return grad.sum_to_size(like.shape)


def _pieces(rows: int, width: int, device: torch.device) -> Iterator[slice]:
    step = max(1, _CHUNK // width) if device.type == 'cpu' else max(rows, 1)
    return (slice(i, i + step) for i in range(0, rows, step))


class _Ambient(Function):
    """``[x0; x]`` with ``x0 = sqrt(k + |x|^2)``; ``dx0 = (x . dx + dk / 2) / x0``."""

    @staticmethod
    def forward(ctx, x: Tensor, k: Curvature) -> Tensor:
        # x (..., d); only the result (..., 1 + d) is kept: the linear map behind keeps it anyway
        out = torch.cat([_time(x, k), x], -1)
        ctx.k = k
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        (out,) = ctx.saved_tensors
        ratio = grad[..., :1] / out[..., :1]  # (..., 1): gradient of the time over the time
        return torch.addcmul(grad[..., 1:], out[..., 1:], ratio), _to(ratio / 2, ctx.k)


def to_ambient(x: Tensor, c: Curvature) -> Tensor:
    r"""Ambient points, time first: :math:`[\sqrt{1/c + \lVert x \rVert^2};\, x]`.

    Args:
        x: Points ``(..., d)``.
        c: Curvature.

    Returns:
        ``(..., 1 + d)``, in float32 or better.
    """
    (x,) = upcast(x)
    if takes_formulas(x, c):
        return unfused.to_ambient(x, c)
    return _run(_Ambient, x, 1 / check_curvature(c, x))


def _gated(a: Tensor, b: Tensor, k: Curvature) -> Tensor:
    """Ambient points of ``silu(a) b``, of rows ``(r, d)`` of any stride."""
    width, dtype = a.shape[-1], torch.promote_types(a.dtype, torch.float32)
    if a.numel() <= _SMALL:
        h = F.silu(a.to(dtype)).mul_(b)
        return torch.cat([_time(h, k), h], -1)
    # rows at a time, written where they belong: silu(a) and its product with b are never in memory
    # as a whole
    out = a.new_empty(len(a), width + 1, dtype=dtype)
    for rows in _pieces(len(a), width, a.device):
        h = torch.mul(F.silu(a[rows].to(dtype)), b[rows], out=out[rows, 1:])
        out[rows, :1] = _time(h, k)
    return out


def _gated_gradients(
    grad: Tensor, out: Tensor, ratio: Tensor, a: Tensor, b: Tensor, ga: Tensor, gb: Tensor
) -> None:
    """Writes the gradients ``ga`` and ``gb`` of :func:`_gated`, whose result was ``out``."""
    for rows in _pieces(len(a), a.shape[-1], a.device):
        gh = torch.addcmul(grad[rows, 1:], out[rows, 1:], ratio[rows])  # (r, d), as in _Ambient
        gate = a[rows].to(gh.dtype)
        share = gate.sigmoid()
        silu = gate.mul_(share) if gate.dtype != a.dtype else gate * share
        torch.mul(silu, gh, out=gb[rows])
        gh.mul_(b[rows])
        # d silu / da = s + silu (1 - s) = s - s silu + silu
        torch.mul(torch.addcmul(share, share, silu, value=-1).add_(silu), gh, out=ga[rows])


class _GatedAmbient(Function):
    """``[h0; h]`` with ``h = silu(a) b``; the gate is computed again in the backward pass."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor | None, k: Curvature) -> Tensor:
        # without b, a is both side by side
        ctx.k = k
        first, second = a.chunk(2, -1) if b is None else (a, b)
        first, second = (x.reshape(-1, x.shape[-1]) for x in (first, second))
        out = _gated(first, second, k).view(*a.shape[:-1], first.shape[-1] + 1)
        ctx.save_for_backward(a, b, out)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        a, b, out = ctx.saved_tensors
        ratio = grad[..., :1] / out[..., :1]
        if takes_plain_backward(grad):

            def formula(a: Tensor, b: Tensor | None, k: Curvature) -> Tensor:
                first, second = a.chunk(2, -1) if b is None else (a, b)
                return unfused.gated_ambient(first, second, 1 / k)

            return recorded_gradients(formula, (a, b, ctx.k), grad)
        ga, gb = torch.empty_like(a), None if b is None else torch.empty_like(b)
        halves = (*a.chunk(2, -1), *ga.chunk(2, -1)) if b is None else (a, b, ga, gb)
        views = (grad, out, ratio, *halves)
        _gated_gradients(*(x.reshape(-1, x.shape[-1]) for x in views))
        return ga, gb, _to(ratio / 2, ctx.k)


def gated_ambient(a: Tensor, b: Tensor, c: Curvature) -> Tensor:
    r"""Ambient points of :math:`\mathrm{silu}(a) \odot b`; see :func:`to_ambient`.

    Args:
        a: Gates ``(..., d)``, of any floating point type.
        b: Factors of the gates, of the same shape and type.
        c: Curvature.

    Returns:
        ``(..., 1 + d)``, in float32 or better.
    """
    if takes_formulas(a, b, c):
        return unfused.gated_ambient(a, b, c)
    a, b = torch.broadcast_tensors(a, b)
    return _run(_GatedAmbient, a.contiguous(), b.contiguous(), 1 / check_curvature(c, a))


def gated_ambient_halves(both: Tensor, c: Curvature) -> Tensor:
    """:func:`gated_ambient` of gates and factors side by side, ``(..., 2 d)``."""
    if takes_formulas(both, c):
        first, second = both.chunk(2, -1)
        return unfused.gated_ambient(first, second, c)
    both = both if both.stride(-1) == 1 else both.contiguous()  # rows may have a gap behind
    return _run(_GatedAmbient, both, None, 1 / check_curvature(c, both))


class _RMSNorm(Function):
    """``w x r`` with ``r = (mean(x^2) + eps)^(-1/2)``, ``dr = -r^3 (x . dx) / d``."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        # (..., 1); the norm in one pass, where squares would be written out first
        rate = _norm(x).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.eps = eps
        ctx.save_for_backward(x, weight, rate)
        return (x * rate).mul_(weight)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight, rate = ctx.saved_tensors
        if takes_plain_backward(grad):
            return recorded_gradients(unfused.rms_norm, (x, weight, ctx.eps), grad)
        product = (grad * x).mul_(rate)  # (..., d), for the weight and for the rate
        g_weight = product.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        share = product.mul_(weight).sum(-1, keepdim=True).mul_(rate).mul_(rate)
        gx = (grad * weight).mul_(rate)
        return gx.addcmul_(x, share, value=-1 / x.shape[-1]), g_weight, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    r"""Root-mean-square norm :math:`w\, x / \sqrt{\bar{x^2} + \epsilon}`.

    Args:
        x: ``(..., d)``.
        weight: ``(d,)``.
        eps: Added to the mean square.

    Returns:
        ``(..., d)``, in float32 or better.
    """
    x, weight = upcast(x, weight)
    if takes_formulas(x, weight):
        return unfused.rms_norm(x, weight, eps)
    return _run(_RMSNorm, x, weight, eps)


class _Sum(Function):
    """Weighted sum of n points over its Lorentzian norm, by the chords of all pairs."""

    @staticmethod
    def forward(ctx, c: Curvature, scale: Curvature, *tensors) -> Tensor:
        # tensors: n - 1 weights, () or (..., 1), then n points (..., d); the first weight is 1
        count = len(tensors) // 2 + 1
        weights, points = (1.0, *tensors[: count - 1]), tensors[-count:]
        k = 1 / c
        times, spread, chords = [_time(x, k) for x in points], 0, []
        for j in range(1, count):
            for i in range(j):
                # squared chord |x_i - x_j|_L^2 (..., 1): differences first, for close points
                chord, apart = _norm(points[i] - points[j]), times[i] - times[j]
                chords.append(chord.mul_(chord).sub_(apart.mul_(apart)))
                spread = spread + (weights[i] * weights[j] if i else weights[j]) * chords[-1]
        total = sum(weights)
        norm = total * total + c * spread  # (..., 1), -c <u, u>_L
        rate = scale * norm.abs().clamp_min(1e-6).rsqrt()
        out = torch.addcmul(points[0], points[1], weights[1])
        for x, weight in zip(points[2:], weights[2:]):
            out.addcmul_(x, weight)
        ctx.numbers = c, scale, *weights
        ctx.save_for_backward(*points, *times, *chords, norm, rate)
        return out.mul_(rate)

    @staticmethod
    def backward(ctx, grad: Tensor):
        c, scale, *weights = ctx.numbers
        *saved, norm, rate = ctx.saved_tensors
        n = len(weights)
        points, times, chords = saved[:n], saved[n : 2 * n], iter(saved[2 * n :])
        if takes_plain_backward(grad):

            def formula(c: Curvature, scale: Curvature, *tensors: Tensor) -> Tensor:
                return unfused.normalized_sum(tensors[-n:], tensors[:-n], c, scale)

            return recorded_gradients(formula, (c, scale, *weights[1:], *points), grad)
        # out = rate (x_1 + sum w_i x_i): first through the sum with the rate held, then through it
        dots = [(grad * x).sum(-1, keepdim=True) for x in points]  # n of (..., 1)
        g_rate = sum(w * dot for w, dot in zip(weights, dots))
        held = norm.abs() > 1e-6  # below, the floor cuts the gradient
        g_norm = torch.where(held, -0.5 * g_rate * rate / torch.where(held, norm, 1), 0)
        # norm = (sum w)^2 + c sum w_i w_j chord_ij, by each of the three
        g_norm_c, slope = g_norm * c, g_norm * (2 * sum(weights))
        g_weights = [rate * dot + slope for dot in dots]
        base, pulls, g_c = grad * rate, [0] * n, 0
        g_points = [base, *(base * w for w in weights[1:])]
        for j in range(1, n):
            for i in range(j):
                chord, both, apart = next(chords), weights[i] * weights[j], times[i] - times[j]
                share, pull = g_norm_c * chord, g_norm_c * (2 * both)
                g_weights[i] = g_weights[i] + share * weights[j]
                g_weights[j] = g_weights[j] + share * weights[i]
                if isinstance(c, Tensor):
                    # the times depend on c: d chord / dc = -apart^2 / (c^2 x0 y0)
                    chord = chord - apart.square() / (c * times[i] * times[j])
                    g_c = g_c + g_norm * both * chord
                # d chord / d x_i = 2 (x_i - x_j) - 2 apart x_i / time_i; the second part is added
                # up in pulls (..., 1), to go over each point once
                difference, radial = points[i] - points[j], pull * apart
                g_points[i].addcmul_(difference, pull)
                g_points[j].addcmul_(difference, pull, value=-1)
                pulls[i], pulls[j] = pulls[i] - radial, pulls[j] + radial
        for g, x, pull, time in zip(g_points, points, pulls, times):
            g.addcmul_(x, pull / time)
        g_weights = [_to(g, w) for g, w in zip(g_weights[1:], weights[1:])]
        return _to(g_c, c), _to(g_rate * rate / scale, scale), *g_weights, *g_points


def normalized_sum(
    points: Sequence[Tensor],
    weights: Sequence[Tensor],
    c: Curvature,
    scale: Curvature = 1.0,
) -> Tensor:
    r"""Weighted sum of points, brought back to the hyperboloid: for weights > 0 their centroid.

    .. math:: s\,\frac{u_s}{\sqrt{c\,\lvert\langle u, u\rangle_{\mathcal L}\rvert}},\qquad
        u = \sum_i w_i x_i,\quad w_1 = 1,\qquad -c\,\langle u, u \rangle_{\mathcal L}
        = \Big(\sum_i w_i\Big)^2 + c \sum_{i < j} w_i w_j \lVert x_i - x_j \rVert_{\mathcal L}^2

    The chords on the right keep the digits that a difference of the squares of ``u`` loses far out,
    and so a few points need no float64. Only weights of both signs can bring the sum to zero; the
    right-hand side is then kept above ``1e-6``.

    Args:
        points: Two or more tensors of points ``(..., d)``.
        weights: Those of all but the first, 0-dimensional or ``(..., 1)``.
        c: Curvature.
        scale: ``s``, of the space components.

    Returns:
        Points ``(..., d)``, in float32 or better.
    """
    points = upcast(*points)
    weights = [w.to(points[0].dtype) for w in weights]
    if len(points) < 2 or len(weights) != len(points) - 1:
        raise ValueError(
            f'points must be 2 or more and weights one fewer, got {len(points)} and {len(weights)}'
        )
    if takes_formulas(*points, *weights, c, scale):
        return unfused.normalized_sum(points, weights, c, scale)
    return _run(_Sum, check_curvature(c, *points), scale, *weights, *points)


def _rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotates pairs of the last dimension by unit complex numbers."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * table).flatten(-2)


class _Heads(Function):
    """Rotation, time, factor and centering of heads, written once into rows of one width."""

    @staticmethod
    def forward(ctx, x, k, table, factor, center, width):
        # x (B, N, H, d) -> out (B, N, H, width): time, d space components, zeros
        dims = x.shape[-1]
        out = x.new_empty(*x.shape[:-1], width)
        space, time = out[..., 1 : dims + 1], out[..., :1]
        # components from start on turn; those before have no position (HMLA)
        start = dims if table is None else dims - 2 * table.shape[-1]
        space[..., :start] = x[..., :start]
        if table is not None:
            space[..., start:] = _rotate(x[..., start:], table)
        time.copy_(_time(x, k))  # of x itself: a rotation keeps the norm
        out[..., dims + 1 :] = 0
        if factor is not None:
            space.mul_(factor)
            time.mul_(-factor)
        middle = None
        if center is not None:
            # (B, 1, H, width); a row of the softmax does not see it, so it has no gradient
            middle = out.mean(1, keepdim=True) if center == 'mean' else out[:, :1].clone()
            out.sub_(middle)
            ctx.mark_non_differentiable(middle)
        ctx.k, ctx.start, ctx.dims, ctx.factor = k, start, dims, factor
        ctx.save_for_backward(out, table, middle)
        return out, middle

    @staticmethod
    def backward(ctx, grad, _):
        # all of it can be differentiated again: out stands for the inputs
        out, table, middle = ctx.saved_tensors
        factor, start, space = ctx.factor, ctx.start, slice(1, ctx.dims + 1)
        time = out[..., :1] if middle is None else out[..., :1] + middle[..., :1]
        # both parts carry the factor, so that it cancels in x / time; queries have time -f x0, and
        # the sign of the gradient with it
        ratio = grad[..., :1] / time
        gx = torch.addcmul(grad[..., space], out[..., space], ratio)
        if middle is not None:
            gx.addcmul_(middle[..., space], ratio)
        g_k, g_factor = ratio / 2, None
        if factor is not None:
            gx = gx * factor if takes_plain_backward(grad) else gx.mul_(factor)
            g_k = g_k * factor.square()
            whole = out if middle is None else out + middle
            g_factor = _to((grad * whole).sum(-1, keepdim=True), factor) / factor
        if table is not None:
            gx[..., start:] = _rotate(gx[..., start:], table.conj())  # turned back
        return gx, _to(g_k, ctx.k), None, g_factor, None, None


def heads(
    x: Tensor,
    c: Curvature,
    table: unfused.RotationTable | None = None,
    factor: Tensor | None = None,
    center: str | None = None,
    width: int = 0,
) -> tuple[Tensor, Tensor | None]:
    r"""Lays out the queries, keys or values of Lorentzian attention.

    Keys and values are ambient points, of which one vector is subtracted: their mean, or the first.
    With a factor ``f`` the results are queries, whose dot products with keys are scores:
    :math:`[-f q_0;\, f q] \cdot [k_0;\, k] = f \langle q, k \rangle_{\mathcal L}`.

    Args:
        x: Points ``(B, N, H, d)``.
        c: Curvature.
        table: Unit complex numbers ``(N, 1, p)`` that rotate the last ``p`` pairs of dimensions.
        factor: 0-dimensional factor of queries.
        center: ``'mean'``, ``'first'`` (along N), or None: nothing is subtracted. What is, counts
            as a constant: the attention does not depend on it.
        width: Last dimension of the result, filled up with zeros, if more than ``1 + d``.

    Returns:
        ``(B, N, H, width)`` in float32 or better, and what was subtracted, ``(B, 1, H, width)``.
    """
    width = max(width, x.shape[-1] + 1)
    (x,) = upcast(x)
    if takes_formulas(x, c, factor):
        return unfused.heads(x, c, table, factor, center, width)
    return _run(_Heads, x, 1 / check_curvature(c, x), table, factor, center, width)


class _Normalize(Function):
    """``U r`` with ``U = u + middle`` and ``r = (-c <U, U>_L)^(-1/2)``, and ``r`` itself.

    ``r`` is a result so that it can be differentiated where the gradients are.
    """

    @staticmethod
    def forward(ctx, u: Tensor, middle: Tensor | None, c: Curvature) -> tuple[Tensor, Tensor]:
        # u (..., 1 + d), middle the same or broadcast; the result stands in for U, which is out / r
        out = u.clone() if middle is None else u + middle
        time = out[..., :1]
        radius = _norm(out[..., 1:])
        # a difference of squares as a product: U0^2 - |U|^2 would lose the digits far out
        norm = (time - radius).mul_(time + radius).mul_(c)  # (..., 1)
        # a mean of points has -c<u,u> >= 1; rounding in half precision can take it below
        rate = norm.clamp_min(0.5).rsqrt_()
        out.mul_(rate)
        ctx.c = c
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(out, rate, norm > 0.5)
        return out, rate

    @staticmethod
    def backward(ctx, grad: Tensor | None, g_rate: Tensor | None):
        out, rate, held = ctx.saved_tensors
        if grad is None:
            grad = torch.zeros_like(out)
        dot = (grad * out).sum(-1, keepdim=True)
        if g_rate is not None:
            dot = dot + g_rate * rate
        dot = torch.where(held, dot, 0)
        # dr = c r^3 <U, dU>_L; signature: minus for the time
        gu, pull = grad * rate, dot * rate * ctx.c
        gu[..., 1:].addcmul_(out[..., 1:], pull)
        gu[..., :1].addcmul_(out[..., :1], pull, value=-1)
        return gu, None, _to(dot / (-2 * ctx.c), ctx.c)


def normalize(u: Tensor, middle: Tensor | None, c: Curvature) -> Tensor:
    r"""Brings means of points back to the hyperboloid, :math:`U / \sqrt{-c \langle U, U \rangle}`.

    Args:
        u: Means ``(..., 1 + d)``, time first, less ``middle``.
        middle: What :func:`heads` subtracted, broadcast; a constant. None: nothing.
        c: Curvature.

    Returns:
        Ambient points ``(..., 1 + d)``, time first, in float32 or better.
    """
    if middle is None:
        (u,) = upcast(u)
    else:
        u, middle = upcast(u, middle)
    if takes_formulas(u, middle, c):
        return unfused.normalize(u, middle, c)
    return _run(_Normalize, u, middle, check_curvature(c, u))[0]


__getattr__ = renamed_attributes(
    __name__,
    lift='hyper_mm.ops.fused.to_ambient',
    gated_lift='hyper_mm.ops.fused.gated_ambient',
    normalise='hyper_mm.ops.fused.normalize',
    normalised_sum='hyper_mm.ops.fused.normalized_sum',
)
