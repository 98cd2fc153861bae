r"""Elementwise maps in few passes over memory.

Maps at a point, transport, Moebius operations and distances are, row by row, linear combinations of
their inputs whose factors depend on scalar products of the inputs alone:

.. math:: f(z) = \sum_k a_k(G)\, z_k,\qquad G_{ij} = z_i \cdot z_j

So scalar products are computed of the vectors, the factors of them, one number a row, and the sum.
The gradients have the same form:

.. math:: \bar z_k = a_k\, \bar f + \sum_j (1 + \delta_{kj})\, \bar G_{kj}\, z_j,\qquad \bar a_k =
    \bar f \cdot z_k

and :math:`\bar G` is the derivative of the factors, in closed form (:attr:`Form.pull`) or by
automatic differentiation of numbers a row. Products are summed and factors computed in float64, in
pieces that stay in caches; what is kept for the backward pass are the inputs and their products.
Vectors stay in float32 where every row is well conditioned (:attr:`Form.easy`), and are converted
to float64 elsewhere.

The path is taken by float32 on processors in eager code, where each row is far from the limits of a
form (:attr:`Form.limits`). Everything else takes the formula itself: float64, points far out,
compiled code, transforms of :mod:`torch.func`, forward mode, and gradients that are differentiated
again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from .backward import recorded_gradients, takes_plain_backward
from .inputs import PLAIN, Curvature, is_readable, takes_formulas

_CACHE = 2**20
"""Numbers in float64 that are worked on at once: 8 MB. Fewer would take more calls."""


class Form(NamedTuple):
    """A map as a linear combination of vectors.

    Attributes:
        basis: Of each vector ``z``, its factors of the inputs: 1, 0 or -1, the first of them 1.
        products: Pairs of vectors, whose scalar products the factors depend on.
        factors: Function of the scalar products ``(n,)``, in order, and of the curvature. Returns
            one factor ``(n,)`` a vector of ``combined``, or the result where that is empty.
        combined: The vectors that the result is combined of; none where it is a number a row.
        limits: Function of the same arguments, whether the factors are precise.
        easy: Function of the same arguments, whether they are from products of float32 numbers,
            too: vectors are not converted then, and are combined in float32. None for never.
        pull: Function of the same arguments and of the gradients of the factors. Returns the
            factors (none where nothing is combined) and the gradients of the products; automatic
            differentiation, which takes more calls, if None.
        plus: A vector that is added with the factor 1.
    """

    basis: tuple[tuple[int, ...], ...]
    products: tuple[tuple[int, int], ...]
    factors: Callable[..., tuple[Tensor, ...]]
    combined: tuple[int, ...] = ()
    limits: Callable[..., bool] = lambda *_: True
    easy: Callable[..., bool] | None = None
    pull: Callable[..., tuple[Sequence[Tensor], Sequence[Tensor]]] | None = None
    plus: int | None = None


_scratch = threading.local()


def _room(count: int, rows: int, width: int, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """Tensors ``(rows, width)`` of the thread: new memory would take longer than what is done.

    ``count`` of them of the given type, and one in float64, which is the last of them where they
    are of float64 themselves.
    """
    found, size = getattr(_scratch, 'memory', None), rows * width
    if found is None or found.numel() < (count + 1) * size:
        found = _scratch.memory = torch.empty((count + 1) * size, dtype=torch.float64)
    room = list(found.view(dtype)[: count * size].view(count, rows, width).unbind())
    if dtype == torch.float64:
        return room, room[-1]
    return room, found[count * size : (count + 1) * size].view(rows, width)


@lru_cache
def _plan(basis: tuple[tuple[int, ...], ...]) -> list[tuple[int, list[tuple[int, int]]]]:
    """Of each vector the input that it begins with, and further ones with their signs."""
    plan = []
    for row in basis:
        first, *others = sorted((i for i, sign in enumerate(row) if sign), key=lambda i: -row[i])
        plan.append((first, [(i, row[i]) for i in others]))
    return plan


def _pieces(
    form: Form, wide: bool, inputs: Sequence[Tensor], grad: Tensor | None = None
) -> Iterator[tuple[slice | None, list[Tensor], tuple[Tensor, Tensor]]]:
    """Some rows at a time, in memory that is used again from piece to piece.

    Args:
        form: The map.
        wide: Convert to float64.
        inputs: Its inputs ``(n, d)``.
        grad: Gradient of its result ``(n, d)``, if that is needed.

    Yields:
        Which rows, None for all; the vectors ``z``, then the gradient if given; room for one more
        of their type, and for one in float64.
    """
    tensors = [*inputs] if grad is None else [*inputs, grad]
    plan, (n, width) = _plan(form.basis), inputs[0].shape
    converted = len(tensors) if wide else 0
    count = converted + sum(len(others) for _, others in plan) + 1
    step = min(max(_CACHE // (count * max(width, 1)), 1), n)
    room, double = _room(count, step, width, torch.float64 if wide else inputs[0].dtype)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n)) if step < n else None
        if n - start < step:
            room, double = [r[: n - start] for r in room], double[: n - start]
        parts = [_part(tensor, rows) for tensor in tensors]
        if wide:
            parts = [r.copy_(part) for r, part in zip(room, parts)]
        vectors, k = [], converted
        for first, others in plan:
            z = parts[first]
            for i, sign in others:
                z = torch.add(z, parts[i], alpha=sign, out=room[k])
                k += 1
            vectors.append(z)
        yield rows, vectors + parts[len(inputs) :], (room[-1], double)


def _part(x: Tensor, rows: slice | None) -> Tensor:
    return x if rows is None else x[rows]


def _product(a: Tensor, b: Tensor, room: tuple[Tensor, Tensor], out: Tensor) -> Tensor:
    """Scalar products ``(n,)`` of rows, summed in float64, squares exactly."""
    own, double = room

    def widened(x: Tensor) -> Tensor:  # by `dtype=torch.float64` it would go to new memory
        return x if x.dtype == double.dtype else double.copy_(x)

    if a is b:
        return torch.linalg.vector_norm(widened(a), dim=-1, out=out).square_()
    return torch.sum(widened(torch.mul(a, b, out=own)), -1, out=out)


def _write_sum(terms: Iterable[tuple[Tensor, Tensor | float]], room: Tensor, out: Tensor) -> None:
    """Writes a sum of vectors times factors, numbers or ``(n,)``; those of 0 are left out."""
    total, room = None, out if room.dtype == out.dtype else room
    for z, a in terms:
        if isinstance(a, Tensor):
            a = a.to(z.dtype).unsqueeze(-1)
            total = (
                torch.mul(z, a, out=room) if total is None else torch.addcmul(total, z, a, out=room)
            )
        elif a:
            total = (
                torch.mul(z, a, out=room)
                if total is None
                else torch.add(total, z, alpha=a, out=room)
            )
    if total is None:
        out.zero_()
    elif total is not out:
        out.copy_(total)


class _Computed(NamedTuple):
    result: Tensor
    products: list[Tensor]  # (n,)
    wide: bool


def _computed(form: Form, wide: bool, c: Curvature, inputs: Sequence[Tensor]) -> _Computed | None:
    """The result; None where the factors are not precise."""
    n, first = len(inputs[0]), inputs[0]
    found = list(torch.empty(len(form.products), n, dtype=torch.float64).unbind())
    out = torch.empty_like(first, memory_format=torch.contiguous_format)
    out = out if form.combined else first.new_empty(n)
    precise = form.limits if wide else form.easy
    if precise is None:
        return None
    for rows, z, room in _pieces(form, wide, inputs):
        products = [
            _product(z[i], z[j], room, _part(row, rows))
            for (i, j), row in zip(form.products, found)
        ]
        if not precise(*products, c):
            return None
        factors = form.factors(*products, c)
        if form.combined:
            terms: list[tuple[Tensor, Tensor | float]]
            terms = list(zip([z[k] for k in form.combined], factors))
            if form.plus is not None:
                terms.append((z[form.plus], 1.0))
            _write_sum(terms, room[0], _part(out, rows))
        else:
            _part(out, rows).copy_(factors[0])
    return _Computed(out, found, wide)


class _Rows(Function):
    """A :class:`Form`, of inputs ``(n, d)``, with its result and products."""

    @staticmethod
    def forward(ctx, form: Form, formula: Callable[..., Tensor], computed, c, *inputs: Tensor):
        ctx.form, ctx.formula, ctx.wide = form, formula, computed.wide
        ctx.c = None if isinstance(c, Tensor) else c
        ctx.save_for_backward(*inputs, *computed.products, *([c] if ctx.c is None else []))
        return computed.result

    @staticmethod
    def backward(ctx, grad: Tensor):
        form, count = ctx.form, len(ctx.form.basis[0])
        inputs, rest = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        products, c = rest[: len(form.products)], rest[-1] if ctx.c is None else ctx.c
        if takes_plain_backward(grad):
            *found, g_c = recorded_gradients(ctx.formula, (*inputs, c), grad)
            return None, None, None, g_c, *found
        needed = ctx.needs_input_grad[3:]
        # that of a sum is one number, whose products with a number a row are slow
        found = _gradients(form, ctx.wide, grad.contiguous(), inputs, products, c, needed)
        return None, None, None, *found


def _gradients(
    form: Form,
    wide: bool,
    grad: Tensor,
    inputs: Sequence[Tensor],
    products: Sequence[Tensor],
    c: Curvature,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of the curvature and of the inputs, where they are needed."""
    g_c = torch.zeros_like(c) if isinstance(c, Tensor) and needed[0] else None
    found = [
        torch.empty_like(x, memory_format=torch.contiguous_format) if need else None
        for x, need in zip(inputs, needed[1:])
    ]
    factors: Sequence[Tensor]
    pulled: Sequence[Tensor | None]
    for rows, z, room in _pieces(form, wide, inputs, grad if form.combined else None):
        given = [_part(p, rows) for p in products]
        if not form.combined:
            pulls = [_part(grad, rows).double()]
        else:
            pulls = [_product(z[-1], z[k], room, torch.empty_like(given[0])) for k in form.combined]
        if form.pull is not None and g_c is None:
            factors, pulled = form.pull(*given, c, *pulls)
        else:
            factors, pulled = _pulled(form, given, c, g_c, pulls)
        for i, out in enumerate(found):
            if out is not None:
                terms = _terms(form, i, factors, pulled)
                _write_sum([(z[k], a) for k, a in terms.items()], room[0], _part(out, rows))
    return [g_c, *found]


def _pulled(
    form: Form,
    products: Sequence[Tensor],
    c: Curvature,
    g_c: Tensor | None,
    pulls: Sequence[Tensor],
) -> tuple[Sequence[Tensor], Sequence[Tensor | None]]:
    """As :attr:`Form.pull`, by automatic differentiation; adds to ``g_c``."""
    with torch.enable_grad():
        leaves = [p.detach().requires_grad_() for p in products]
        sources = list(leaves)
        if g_c is not None:
            assert isinstance(c, Tensor)
            c = c.detach().requires_grad_()
            sources.append(c)
        factors = form.factors(*leaves, c)
    pulled = torch.autograd.grad(factors, sources, pulls, allow_unused=True)
    if g_c is not None and pulled[-1] is not None:
        g_c += pulled[-1]
    return factors if form.combined else (), pulled[: len(leaves)]


def _terms(
    form: Form, i: int, factors: Sequence[Tensor], pulled: Sequence[Tensor | None]
) -> dict[int, Tensor | float]:
    """Factors of the vectors in the gradient of input ``i``; -1 is that of the result."""
    terms: dict[int, Tensor | float] = {}

    def add(k: int, a: Tensor | float, sign: int) -> None:
        a = a if sign == 1 else -a
        terms[k] = terms[k] + a if k in terms else a

    for (j, k), g in zip(form.products, pulled):
        if g is not None:
            for one, other in ((j, k), (k, j)):
                if form.basis[one][i]:
                    add(other, g, form.basis[one][i])
    for k, a in zip(form.combined, factors):
        if form.basis[k][i]:
            add(-1, a.detach(), form.basis[k][i])
    if form.plus is not None and form.basis[form.plus][i]:
        add(-1, 1.0, form.basis[form.plus][i])
    return terms


def run(form: Form, formula: Callable[..., Tensor], c: Curvature, *inputs: Tensor) -> Tensor:
    """Computes a map of rows.

    Args:
        form: The map.
        formula: The same map of the inputs ``(..., d)`` and the curvature, of any dtype, at any
            radius, for any kind of differentiation.
        c: Curvature, checked.
        *inputs: Tensors ``(..., d)`` of one dtype.

    Returns:
        ``(..., d)``, or ``(...)`` where the form combines no vectors.
    """
    if not _fits(c, inputs):
        return formula(*inputs, c)
    if len({x.shape for x in inputs}) > 1:
        inputs = torch.broadcast_tensors(*inputs)
    shape, width = inputs[0].shape, inputs[0].shape[-1]
    flat = [x.reshape(-1, width) for x in inputs]
    number = c.double().reshape(()) if isinstance(c, Tensor) else c
    with torch.no_grad():
        computed = _computed(form, False, number, flat) or _computed(form, True, number, flat)
    if computed is None:
        return formula(*inputs, c)
    out = computed.result
    if torch.is_grad_enabled():
        out = _Rows.apply(form, formula, computed, number, *flat)
    return out.view(shape if form.combined else shape[:-1])


def _fits(c: Curvature, inputs: Sequence[Tensor]) -> bool:
    first = inputs[0]
    return (
        first.dtype == torch.float32
        and first.ndim > 0
        and is_readable(first)
        and all(
            x.device.type == 'cpu'
            and x.numel() > 0
            and type(x) in PLAIN
            and x.shape[-1:] == first.shape[-1:]
            for x in inputs
        )
        and not takes_formulas(*inputs, c)
        and (not isinstance(c, Tensor) or c.numel() == 1)
    )
