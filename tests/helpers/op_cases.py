"""The table of geometry ops, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from hyper_mm.ops import (
    busemann,
    entailment,
    hyperplanes,
    lorentz,
    means,
    poincare,
    riemannian_normal,
    wrapped_normal,
)
from tests.test_ops.conftest import vectors_of_length

L, P, E, B, H = lorentz, poincare, entailment, busemann, hyperplanes


class Case(NamedTuple):
    """An op for the harness.

    Attributes:
        call: Function of the tensors and the curvature.
        inputs: A letter a tensor: ``v`` vector, ``x`` point of the hyperboloid, ``p`` point of the
            ball, ``k`` of Klein's model, ``m`` matrix ``(3, d)``.
        out: Shape of the result: ``vector`` (..., d), ``number`` (...), ``pairs`` (..., n, m),
            ``reduced`` (..., d) without the last but one dimension, ``mapped`` (..., 3), ``longer``
            and ``shorter`` (..., d +- 1).
        curved: Whether the op takes a curvature.
    """

    call: Callable
    inputs: str
    out: str
    curved: bool = True


CASES = {
    'lorentz.time': Case(L.time, 'x', 'number'),
    'lorentz.expmap0': Case(L.expmap0, 'v', 'vector'),
    'lorentz.logmap0': Case(L.logmap0, 'x', 'vector'),
    'lorentz.dist0': Case(L.dist0, 'x', 'number'),
    'lorentz.inner': Case(L.inner, 'xx', 'number'),
    'lorentz.dist': Case(L.dist, 'xx', 'number'),
    'lorentz.dist_tangent0': Case(L.dist_tangent0, 'vv', 'number'),
    'lorentz.pairwise_inner': Case(L.pairwise_inner, 'xx', 'pairs'),
    'lorentz.pairwise_dist': Case(L.pairwise_dist, 'xx', 'pairs'),
    'lorentz.pairwise_dist_tangent0': Case(L.pairwise_dist_tangent0, 'vv', 'pairs'),
    'lorentz.expmap': Case(L.expmap, 'xv', 'vector'),
    'lorentz.logmap': Case(L.logmap, 'xx', 'vector'),
    'lorentz.half_aperture': Case(L.half_aperture, 'x', 'number'),
    'lorentz.exterior_angle': Case(L.exterior_angle, 'xx', 'number'),
    'lorentz.centroid': Case(lambda x, c: L.centroid(x, None, c), 'x', 'reduced'),
    'lorentz.transport0': Case(L.transport0, 'xv', 'vector'),
    'lorentz.rescale': Case(lambda x, c: L.rescale(x, c, 2.0), 'x', 'vector'),
    'lorentz.to_poincare': Case(L.to_poincare, 'x', 'vector'),
    'lorentz.from_poincare': Case(L.from_poincare, 'p', 'vector'),
    'lorentz.to_klein': Case(L.to_klein, 'x', 'vector'),
    'lorentz.from_klein': Case(L.from_klein, 'k', 'vector'),
    'lorentz.to_ambient': Case(L.to_ambient, 'x', 'longer'),
    'lorentz.from_ambient': Case(lambda x, c: L.from_ambient(x), 'x', 'shorter', curved=False),
    'lorentz.transport': Case(L.transport, 'xxv', 'vector'),
    'lorentz.transport_to0': Case(L.transport_to0, 'xv', 'vector'),
    'lorentz.translate': Case(L.translate, 'xx', 'vector'),
    'lorentz.geodesic': Case(lambda x, y, c: L.geodesic(x, y, 0.3, c), 'xx', 'vector'),
    'poincare.expmap0': Case(P.expmap0, 'v', 'vector'),
    'poincare.logmap0': Case(P.logmap0, 'p', 'vector'),
    'poincare.project': Case(P.project, 'p', 'vector'),
    'poincare.mobius_add': Case(P.mobius_add, 'pp', 'vector'),
    'poincare.mobius_matvec': Case(P.mobius_matvec, 'mp', 'mapped'),
    'poincare.dist': Case(P.dist, 'pp', 'number'),
    'poincare.pairwise_dist': Case(P.pairwise_dist, 'pp', 'pairs'),
    'poincare.radius': Case(P.radius, 'p', 'number'),
    'poincare.to_lorentz': Case(P.to_lorentz, 'p', 'vector'),
    'poincare.expmap': Case(P.expmap, 'pv', 'vector'),
    'poincare.logmap': Case(P.logmap, 'pp', 'vector'),
    'poincare.geodesic': Case(lambda x, y, c: P.geodesic(x, y, 0.3, c), 'pp', 'vector'),
    'poincare.gyration': Case(P.gyration, 'ppv', 'vector'),
    'poincare.mobius_scalar': Case(lambda x, c: P.mobius_scalar(1.5, x, c), 'p', 'vector'),
    'poincare.transport': Case(P.transport, 'ppv', 'vector'),
    'poincare.transport0': Case(P.transport0, 'pv', 'vector'),
    'poincare.transport_to0': Case(P.transport_to0, 'pv', 'vector'),
    'busemann.lorentz_busemann': Case(B.lorentz_busemann, 'xv', 'number'),
    'busemann.lorentz_pairwise_busemann': Case(B.lorentz_pairwise_busemann, 'xv', 'pairs'),
    'busemann.poincare_busemann': Case(B.poincare_busemann, 'pv', 'number'),
    'busemann.lorentz_horosphere_dist': Case(
        lambda x, p, c: B.lorentz_horosphere_dist(x, p, 0.3, c), 'xv', 'number'
    ),
    'busemann.poincare_horosphere_dist': Case(
        lambda x, p, c: B.poincare_horosphere_dist(x, p, 0.3, c), 'pv', 'number'
    ),
    'hyperplanes.lorentz_hyperplane_dist': Case(
        lambda x, w, c: H.lorentz_hyperplane_dist(x, w, 0.3, c), 'xv', 'number'
    ),
    'hyperplanes.lorentz_pairwise_hyperplane_dist': Case(
        lambda x, w, c: H.lorentz_pairwise_hyperplane_dist(x, w, w[..., 0], c), 'xv', 'pairs'
    ),
    'hyperplanes.poincare_hyperplane_dist': Case(
        lambda x, w, c: H.poincare_hyperplane_dist(x, w, w[..., 0], c), 'pv', 'number'
    ),
    'hyperplanes.poincare_pairwise_hyperplane_dist': Case(
        lambda x, w, c: H.poincare_pairwise_hyperplane_dist(x, w, w[..., 0], c), 'pv', 'pairs'
    ),
    'hyperplanes.gyroplane_dist': Case(H.gyroplane_dist, 'ppv', 'number'),
    'means.lorentz_frechet_mean': Case(
        lambda x, c: means.lorentz_frechet_mean(x, None, c), 'x', 'reduced'
    ),
    'means.poincare_frechet_mean': Case(
        lambda x, c: means.poincare_frechet_mean(x, None, c), 'p', 'reduced'
    ),
    'means.einstein_midpoint': Case(
        lambda x, c: means.einstein_midpoint(x, None, c), 'k', 'reduced'
    ),
    'wrapped_normal.lorentz_wrapped_log_prob': Case(
        lambda x, y, c: wrapped_normal.lorentz_wrapped_log_prob(x, y, 0.7, c), 'xx', 'number'
    ),
    'wrapped_normal.poincare_wrapped_log_prob': Case(
        lambda x, y, c: wrapped_normal.poincare_wrapped_log_prob(x, y, 0.7, c), 'pp', 'number'
    ),
    'riemannian_normal.lorentz_riemannian_log_prob': Case(
        lambda x, y, c: riemannian_normal.lorentz_riemannian_log_prob(x, y, 0.7, c), 'xx', 'number'
    ),
    'riemannian_normal.poincare_riemannian_log_prob': Case(
        lambda x, y, c: riemannian_normal.poincare_riemannian_log_prob(x, y, 0.7, c),
        'pp',
        'number',
    ),
    'entailment.lorentz_exterior_angle': Case(E.lorentz_exterior_angle, 'xx', 'number'),
    'entailment.lorentz_half_aperture': Case(E.lorentz_half_aperture, 'x', 'number'),
    'entailment.poincare_exterior_angle': Case(E.poincare_exterior_angle, 'pp', 'number'),
    'entailment.poincare_half_aperture': Case(E.poincare_half_aperture, 'p', 'number'),
    'entailment.euclidean_exterior_angle': Case(
        lambda x, y, c: E.euclidean_exterior_angle(x, y), 'vv', 'number', curved=False
    ),
    'entailment.euclidean_half_aperture': Case(
        lambda x, c: E.euclidean_half_aperture(x), 'v', 'number', curved=False
    ),
    'entailment.cone_energy': Case(
        lambda x, y, c: E.cone_energy(E.lorentz_exterior_angle(x, y, c), L.half_aperture(x, c)),
        'xx',
        'number',
    ),
}
MODULES = (
    busemann,
    entailment,
    hyperplanes,
    lorentz,
    means,
    poincare,
    riemannian_normal,
    wrapped_normal,
)
RANDOM = {
    'riemannian_normal.lorentz_riemannian_sample',
    'riemannian_normal.poincare_riemannian_sample',
    'riemannian_normal.riemannian_log_normalizer',
    'wrapped_normal.lorentz_wrapped_sample',
    'wrapped_normal.poincare_wrapped_sample',
}
"""Functions that draw, or take no points: they have tests of their own."""


def select(wanted: Callable[[Case], bool]):
    return pytest.mark.parametrize('name', [name for name, case in CASES.items() if wanted(case)])


every = select(lambda case: True)
curved = select(lambda case: case.curved)
pairwise = select(lambda case: case.out == 'pairs')
elementwise = select(lambda case: case.out in ('vector', 'number') and len(case.inputs) == 2)


def to_kind(kind: str, v: Tensor, c: float = 1.0) -> Tensor:
    """The input of that kind at the vectors ``v``, float64."""
    if kind == 'x':
        return L.expmap0(v, c)
    if kind == 'k':
        return L.to_klein(L.expmap0(v, c), c)
    return P.expmap0(v / 2, c) if kind == 'p' else v


def make(name: str, *shape: int, dtype=torch.float64, radius: float = 1.0, seed: int = 0):
    """Inputs of an op: vectors of one scaled radius (curvature -1), each with a seed of its own."""
    tensors = []
    for k, kind in enumerate(CASES[name].inputs):
        v = vectors_of_length(radius * (1 + 0.2 * k), *shape, seed=seed + k)
        if kind == 'm':
            v = vectors_of_length(1.0, 3, shape[-1], seed=seed)
        tensors.append(to_kind(kind, v).to(dtype))
    return tensors


def trainable(tensors):
    return [tensor.clone().requires_grad_() for tensor in tensors]


def expected_shape(name: str, first: Tensor, last: Tensor) -> tuple[int, ...]:
    out = CASES[name].out
    if out == 'pairs':
        batch = torch.broadcast_shapes(first.shape[:-2], last.shape[:-2])
        return (*batch, first.shape[-2], last.shape[-2])
    if out == 'mapped':
        return (*last.shape[:-1], 3)
    shape = torch.broadcast_shapes(first.shape, last.shape)
    if out in ('longer', 'shorter'):
        return (*shape[:-1], shape[-1] + (1 if out == 'longer' else -1))
    return {'number': shape[:-1], 'reduced': (*shape[:-2], shape[-1]), 'vector': shape}[out]


def edges(kind: str, dtype: torch.dtype, far: float) -> Tensor:
    """Inputs where textbook formulas break, ``(n, 4)``: the origin, a tiny vector, points on an
    axis (collinear with each other and the origin, on both sides), and far ones.
    """
    axis = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    slanted = vectors_of_length(1.0, 4)
    lengths = [0.0, 1e-20, 1e-4, 1.0, far]
    rows = [r * direction for direction in (axis, -axis, slanted) for r in lengths]
    x = to_kind(kind, torch.stack(rows)).to(dtype)
    if kind in 'pk':
        x = x / (x.norm(dim=-1, keepdim=True) / 0.9999).clamp_min(1)
    return x


def finite_everywhere(name: str, tensors, c=1.0):
    """Value and gradients of an op, asserted finite."""
    tensors = trainable(tensors)
    value = CASES[name].call(*tensors, c)
    assert value.isfinite().all()
    # the mean: a sum of such gradients leaves the range of float16
    grads = torch.autograd.grad(value.mean(), tensors, allow_unused=True)
    for grad in grads:
        assert grad is None or grad.isfinite().all()
    return value.detach(), grads
