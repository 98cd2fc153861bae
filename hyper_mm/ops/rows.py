r"""Elementwise maps in few passes over memory.

Maps at a point, transport, Moebius operations and distances are, row by row, linear combinations of
their inputs whose factors depend on scalar products of the inputs alone:

.. math:: f(z) = \sum_k a_k(G)\, z_k,\qquad G_{ij} = z_i \cdot z_j

So a pass over the vectors computes the scalar products, the factors are computed of one number a
row, and a second pass combines. The gradients have the same form:

.. math:: \bar z_k = a_k\, \bar f + \sum_j (1 + \delta_{kj})\, \bar G_{kj}\, z_j,\qquad \bar a_k =
    \bar f \cdot z_k

and :math:`\bar G` is the derivative of the factors, by automatic differentiation of numbers a row.
All of it is accumulated in float64, in pieces that stay in caches; what is kept for the backward
pass are the inputs and their products.

The path is taken by float32 on processors in eager code, where each row is far from the limits of a
form (:attr:`Form.limits`). Everything else takes the formula itself: float64, points far out,
compiled code, transforms of :mod:`torch.func`, forward mode, and gradients that are differentiated
again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from .stable import Curvature, is_readable, recorded_gradients, takes_formulas

_CACHE = 3 * 2**15
"""Numbers in float64 that a thread works on at once: 0.8 MB, which fit its cache."""


class Form(NamedTuple):
    """A map as a linear combination of vectors.

    Attributes:
        basis: Of each vector ``z``, its factors of the inputs: 1, 0 or -1, the first of them 1.
        products: Pairs of vectors, whose scalar products the factors depend on.
        factors: Function of the scalar products ``(n,)``, in order, and of the curvature. Returns
            one factor ``(n,)`` a vector of ``combined``, or the result where that is empty; a
            factor of 1 is a number.
        combined: The vectors that the result is combined of; none where it is a number a row.
        limits: Function of the same arguments, whether the factors are precise.
    """

    basis: tuple[tuple[int, ...], ...]
    products: tuple[tuple[int, int], ...]
    factors: Callable[..., tuple[Tensor | float, ...]]
    combined: tuple[int, ...] = ()
    limits: Callable[..., bool] = lambda *_: True


_scratch = threading.local()


def _room(count: int, rows: int, width: int) -> Sequence[Tensor]:
    """Tensors ``(rows, width)`` of the thread: new memory would take longer than what is done."""
    found = getattr(_scratch, 'memory', None)
    if found is None or found.numel() < count * rows * width:
        found = _scratch.memory = torch.empty(count * rows * width, dtype=torch.float64)
    return found[: count * rows * width].view(count, rows, width).unbind()


class _Pieces:
    """Some rows at a time in float64, in memory that is used again from piece to piece.

    Args:
        form: The map.
        inputs: Its inputs ``(n, d)``.
        grad: Gradient of its result ``(n, d)``, if that is needed.
    """

    def __init__(self, form: Form, inputs: Sequence[Tensor], grad: Tensor | None = None):
        self.tensors = [*inputs, grad] if grad is not None else list(inputs)
        self.with_grad = grad is not None
        # of each vector the input that it begins with, and further ones with their signs
        self.plan = []
        for row in form.basis:
            first, *others = sorted((i for i, s in enumerate(row) if s), key=lambda i: -row[i])
            self.plan.append((first, [(i, row[i]) for i in others]))
        count = len(self.tensors) + sum(len(others) for _, others in self.plan) + 1
        rows, width = inputs[0].shape
        step = _CACHE * torch.get_num_threads() // (count * max(width, 1))
        self.step = min(max(step, 1), rows)
        self.room = _room(count, self.step, width)

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """The pieces of a tensor ``(n, ...)``."""
        return tensor.split(self.step)

    def __iter__(self) -> Iterator[tuple[int, list[Tensor], Tensor, Tensor]]:
        """Yields the number of a piece, the vectors ``z``, the gradient, and room for one more."""
        room, given = self.room, len(self.tensors)
        for index, parts in enumerate(zip(*map(self.split, self.tensors))):
            if len(parts[0]) < self.step:
                room = [r[: len(parts[0])] for r in room]
            wide = [r.copy_(part) for r, part in zip(room, parts)]
            vectors, k = [], given
            for first, others in self.plan:
                z = wide[first]
                for i, sign in others:
                    z = torch.add(z, wide[i], alpha=sign, out=room[k])
                    k += 1
                vectors.append(z)
            yield index, vectors, wide[-1], room[-1]


def _scalar_products(form: Form, inputs: Sequence[Tensor]) -> list[Tensor]:
    found = torch.empty(len(form.products), len(inputs[0]), dtype=torch.float64).unbind()
    pieces = _Pieces(form, inputs)
    pairs = [(i, j, pieces.split(row)) for (i, j), row in zip(form.products, found)]
    for index, z, _, room in pieces:
        for i, j, row in pairs:
            torch.sum(torch.mul(z[i], z[j], out=room), -1, out=row[index])
    return list(found)


class _Sum:
    """A sum of vectors times factors, by pieces.

    Args:
        pieces: The pieces.
        terms: Of each vector its number, -1 for the gradient, and its factor ``(n,)``.
        out: Where it is written ``(n, d)``.
    """

    def __init__(self, pieces: _Pieces, terms: Sequence[tuple[int, Tensor | float]], out: Tensor):
        self.out = pieces.split(out)
        self.terms = [
            (k, pieces.split(a.unsqueeze(-1)) if isinstance(a, Tensor) else a)
            for k, a in sorted(terms, key=lambda term: isinstance(term[1], float))
        ]

    def write(self, index: int, z: Sequence[Tensor], grad: Tensor, room: Tensor) -> None:
        """Writes a piece."""
        done = False
        for k, a in self.terms:
            vector = grad if k < 0 else z[k]
            if isinstance(a, float):
                torch.add(room, vector, alpha=a, out=room) if done else torch.mul(
                    vector, a, out=room
                )
            elif done:
                torch.addcmul(room, vector, a[index], out=room)
            else:
                torch.mul(vector, a[index], out=room)
            done = True
        if done:
            self.out[index].copy_(room)
        else:
            self.out[index].zero_()


class _Rows(Function):
    """A :class:`Form`, of inputs ``(n, d)``."""

    @staticmethod
    def forward(ctx, form: Form, formula: Callable[..., Tensor], products, c, *inputs: Tensor):
        ctx.form, ctx.formula, ctx.c = form, formula, None if isinstance(c, Tensor) else c
        ctx.save_for_backward(*inputs, *products, *([c] if isinstance(c, Tensor) else []))
        return _result(form, products, c, inputs)

    @staticmethod
    def backward(ctx, grad: Tensor):
        form, count = ctx.form, len(ctx.form.basis[0])
        inputs, rest = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        products, c = rest[: len(form.products)], rest[-1] if ctx.c is None else ctx.c
        if torch.is_grad_enabled():
            *found, g_c = recorded_gradients(ctx.formula, (*inputs, c), grad)
            return None, None, None, g_c, *found
        rows = len(grad)
        with torch.enable_grad():
            leaves = [p.detach().requires_grad_() for p in products]
            number = c.detach().requires_grad_() if ctx.needs_input_grad[3] else c
            factors = form.factors(*leaves, number)
        wanted = [k for k, a in enumerate(factors) if isinstance(a, Tensor)]
        if form.combined:
            pulls = {k: torch.empty(rows, dtype=torch.float64) for k in wanted}
            pieces = _Pieces(form, inputs, grad)
            rows_of = [(form.combined[k], pieces.split(pull)) for k, pull in pulls.items()]
            for index, z, g, room in pieces:
                for k, pull in rows_of:
                    torch.sum(torch.mul(g, z[k], out=room), -1, out=pull[index])
        else:
            pulls = {0: grad.double()}
        sources = [*leaves, number] if ctx.needs_input_grad[3] else leaves
        pulled = torch.autograd.grad(
            [factors[k] for k in wanted], sources, [pulls[k] for k in wanted], allow_unused=True
        )
        g_c = pulled[len(leaves)] if ctx.needs_input_grad[3] else None
        return None, None, None, g_c, *_pull_back(ctx, grad, inputs, factors, pulled)


def _result(form: Form, products, c: Curvature, inputs: Sequence[Tensor]) -> Tensor:
    factors = form.factors(*products, c)
    if not form.combined:
        (value,) = factors
        assert isinstance(value, Tensor)
        return value.to(inputs[0].dtype)
    out = torch.empty_like(inputs[0], memory_format=torch.contiguous_format)
    pieces = _Pieces(form, inputs)
    total = _Sum(pieces, list(zip(form.combined, factors)), out)
    for piece in pieces:
        total.write(*piece)
    return out


def _pull_back(
    ctx, grad: Tensor, inputs: Sequence[Tensor], factors, g_products: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Gradients of the inputs, from those of the scalar products."""
    form = ctx.form
    # of each vector, its factor of the gradient and those of the vectors
    direct: list[Tensor | float] = [0.0] * len(form.basis)
    for k, a in zip(form.combined, factors):
        direct[k] = a.detach() if isinstance(a, Tensor) else a
    across: list[dict[int, Tensor]] = [{} for _ in form.basis]
    for (i, j), g in zip(form.products, g_products):
        if g is not None:
            for a, b in ((i, j), (j, i)):
                across[a][b] = across[a][b] + g if b in across[a] else g
    found: list[Tensor | None] = [None] * len(inputs)
    pieces = _Pieces(form, inputs, grad if form.combined else None)
    sums = []
    for i in range(len(inputs)):
        if not ctx.needs_input_grad[4 + i]:
            continue
        of_grad: Tensor | float = 0.0
        of_z: dict[int, Tensor] = {}
        for k, row in enumerate(form.basis):
            if row[i]:
                of_grad = of_grad + row[i] * direct[k]
                for j, g in across[k].items():
                    g = g if row[i] == 1 else -g
                    of_z[j] = of_z[j] + g if j in of_z else g
        terms: list[tuple[int, Tensor | float]] = list(of_z.items())
        if isinstance(of_grad, Tensor) or of_grad:
            terms.append((-1, of_grad))
        out = found[i] = torch.empty_like(inputs[i], memory_format=torch.contiguous_format)
        sums.append(_Sum(pieces, terms, out))
    for piece in pieces:
        for total in sums:
            total.write(*piece)
    return found


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
        products = _scalar_products(form, flat)
        precise = form.limits(*products, number)
    if not precise:
        return formula(*inputs, c)
    if torch.is_grad_enabled():
        out = _Rows.apply(form, formula, products, number, *flat)
    else:
        out = _result(form, products, number, flat)
    return out.view(shape if form.combined else shape[:-1])


def _fits(c: Curvature, inputs: Sequence[Tensor]) -> bool:
    first = inputs[0]
    return (
        first.dtype == torch.float32
        and first.ndim > 0
        and all(is_readable(x) and x.shape[-1:] == first.shape[-1:] for x in inputs)
        and not takes_formulas(*inputs, c)
        and (not isinstance(c, Tensor) or c.numel() == 1)
    )
