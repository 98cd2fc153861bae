"""One harness for every geometry op; what single ops promise is tested in the files beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from hyper_mm.ops import entailment, lorentz, poincare

from .conftest import FLOATS, HALVES, vectors_of_length

L, P, E = lorentz, poincare, entailment


class Case(NamedTuple):
    """An op for the harness.

    Attributes:
        call: Function of the tensors and the curvature.
        inputs: A letter a tensor: ``v`` vector, ``x`` point of the hyperboloid, ``p`` point of the
            ball, ``m`` matrix ``(3, d)``.
        out: Shape of the result: ``vector`` (..., d), ``number`` (...), ``pairs`` (..., n, m),
            ``reduced`` (..., d) without the last but one dimension, ``mapped`` (..., 3).
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
    'poincare.expmap0': Case(P.expmap0, 'v', 'vector'),
    'poincare.logmap0': Case(P.logmap0, 'p', 'vector'),
    'poincare.project': Case(P.project, 'p', 'vector'),
    'poincare.mobius_add': Case(P.mobius_add, 'pp', 'vector'),
    'poincare.mobius_matvec': Case(P.mobius_matvec, 'mp', 'mapped'),
    'poincare.dist': Case(P.dist, 'pp', 'number'),
    'poincare.pairwise_dist': Case(P.pairwise_dist, 'pp', 'pairs'),
    'poincare.radius': Case(P.radius, 'p', 'number'),
    'poincare.to_lorentz': Case(P.to_lorentz, 'p', 'vector'),
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
MODULES = {'lorentz': lorentz, 'poincare': poincare, 'entailment': entailment}


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
    if kind == 'p':
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


def test_table_holds_every_public_op():
    public = {f'{name}.{op}' for name, module in MODULES.items() for op in module.__all__}
    assert public == set(CASES)


def test_names_of_the_contract():
    names = (
        'time expmap0 logmap0 expmap logmap inner dist pairwise_inner pairwise_dist '
        'pairwise_dist_tangent0 half_aperture exterior_angle centroid transport0 rescale '
        'to_poincare'
    )
    assert set(names.split()) <= set(lorentz.__all__)
    names = 'expmap0 logmap0 project mobius_add mobius_matvec dist pairwise_dist radius to_lorentz'
    assert set(names.split()) <= set(poincare.__all__)


@every
@pytest.mark.parametrize('dtype', FLOATS)
def test_value(name, dtype):
    """Finite, of the inputs' dtype, and without a trace on the inputs."""
    tensors = make(name, 6, 4, dtype=dtype)
    before = [tensor.clone() for tensor in tensors]
    value = CASES[name].call(*tensors, 0.7)
    assert value.dtype == dtype
    assert value.isfinite().all()
    assert not value.requires_grad
    for tensor, kept in zip(tensors, before):
        assert torch.equal(tensor, kept)


@every
@pytest.mark.parametrize('shape', [(4, 3), (1, 1), (2, 3, 4, 5), (0, 3), (2, 0, 3)])
def test_shape(name, shape):
    tensors = make(name, *shape)
    assert CASES[name].call(*tensors, 1.0).shape == expected_shape(name, tensors[0], tensors[-1])


@every
def test_batch_is_a_loop(name):
    """A batch dimension changes nothing."""
    tensors = make(name, 3, 6, 4)
    value = CASES[name].call(*tensors, 0.7)
    for k in range(3):
        one = [tensor if tensor.ndim == 2 else tensor[k] for tensor in tensors]
        torch.testing.assert_close(value[k], CASES[name].call(*one, 0.7))


@elementwise
def test_elementwise_broadcasts(name):
    x, y = make(name, 2, 5, 1, 4)[0], make(name, 3, 4, seed=7)[1]
    value = CASES[name].call(x, y, 0.7)
    assert value.shape == expected_shape(name, x, y)
    expanded = CASES[name].call(x.expand(2, 5, 3, 4), y.expand(2, 5, 3, 4), 0.7)
    torch.testing.assert_close(value, expanded)


@pairwise
def test_pairwise_broadcasts_its_batch(name):
    x, y = make(name, 2, 1, 5, 4)[0], make(name, 3, 6, 4, seed=7)[1]
    value = CASES[name].call(x, y, 0.7)
    assert value.shape == (2, 3, 5, 6)
    torch.testing.assert_close(value[1, 2], CASES[name].call(x[1, 0], y[2], 0.7))


@every
def test_strides_do_not_matter(name):
    tensors = make(name, 6, 4)
    strided = [tensor.mT.contiguous().mT for tensor in tensors]
    assert not strided[0].is_contiguous()
    torch.testing.assert_close(CASES[name].call(*strided, 0.7), CASES[name].call(*tensors, 0.7))


@every
@pytest.mark.parametrize('dtype', HALVES)
def test_half_precision_is_promoted(name, dtype):
    tensors = make(name, 6, 4, dtype=dtype)
    value = CASES[name].call(*tensors, 0.7)
    assert value.dtype == torch.float32
    assert torch.equal(value, CASES[name].call(*[t.float() for t in tensors], 0.7))
    _, grads = finite_everywhere(name, tensors)
    assert all(grad is None or grad.dtype == dtype for grad in grads)


@select(lambda case: len(case.inputs) == 2)
@pytest.mark.parametrize('other', [torch.bfloat16, torch.float32])
def test_mixed_dtypes_promote_to_the_wider(name, other):
    first, second = make(name, 6, 4)
    assert CASES[name].call(first.to(other), second, 0.7).dtype == torch.float64
    assert CASES[name].call(first.float(), second.to(other), 0.7).dtype == torch.float32


@every
def test_float32_against_float64(name):
    """At random points of radius 1, values and gradients keep six digits."""
    single = trainable(make(name, 6, 4, dtype=torch.float32))
    double = trainable(tensor.detach().double() for tensor in single)
    values = [CASES[name].call(*tensors, 0.7) for tensors in (single, double)]
    torch.testing.assert_close(values[0].double(), values[1], rtol=2e-6, atol=2e-6)
    grads = [
        torch.autograd.grad(value.square().sum(), tensors)
        for value, tensors in zip(values, (single, double))
    ]
    for low, high in zip(*grads):
        torch.testing.assert_close(low.double(), high, rtol=2e-5, atol=2e-5)


@every
@pytest.mark.parametrize('dtype', HALVES)
def test_autocast_changes_nothing(name, dtype):
    tensors = trainable(make(name, 6, 4, dtype=torch.float32))
    expected = CASES[name].call(*tensors, 0.7)
    with torch.autocast('cpu', dtype):
        value = CASES[name].call(*tensors, 0.7)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    grads = [torch.autograd.grad(v.sum(), tensors, allow_unused=True) for v in (value, expected)]
    for grad, other in zip(*grads):
        assert (grad is None and other is None) or torch.equal(grad, other)


@every
@pytest.mark.parametrize('c', [0.1, 1.0, 10.0])
@pytest.mark.parametrize('dtype', HALVES)
def test_edges_are_finite_under_autocast(name, dtype, c):
    """All pairs of edge inputs, coincident ones among them, float32 under half autocast."""
    case = CASES[name]
    points = [edges(kind, torch.float32, far=30.0) / c**0.5 for kind in case.inputs]
    if case.out == 'mapped':
        points[0] = points[0][:3]
    elif case.out != 'pairs' and len(points) == 2:
        points = [points[0].unsqueeze(-2), points[1].unsqueeze(-3)]
    with torch.autocast('cpu', dtype):
        finite_everywhere(name, points, c)


@every
@pytest.mark.parametrize('dtype', [*HALVES, torch.float64])
def test_edges_are_finite_in_other_dtypes(name, dtype):
    case = CASES[name]
    far = 30.0 if dtype == torch.float64 else 3.0
    points = [edges(kind, dtype, far) for kind in case.inputs]
    if case.out == 'mapped':
        points[0] = points[0][:3]
    elif case.out != 'pairs' and len(points) == 2:
        points = [points[0].unsqueeze(-2), points[1].unsqueeze(-3)]
    finite_everywhere(name, points)


@every
def test_gradcheck(name):
    tensors = trainable(make(name, 3, 4))
    c = torch.tensor(0.7, dtype=torch.float64, requires_grad=CASES[name].curved)
    assert torch.autograd.gradcheck(CASES[name].call, (*tensors, c))


@every
def test_gradgradcheck(name):
    tensors = trainable(make(name, 2, 3))
    c = torch.tensor(0.7, dtype=torch.float64, requires_grad=CASES[name].curved)
    assert torch.autograd.gradgradcheck(CASES[name].call, (*tensors, c))


@every
def test_forward_mode(name):
    tensors = trainable(make(name, 3, 4))
    c = torch.tensor(0.7, dtype=torch.float64, requires_grad=CASES[name].curved)
    assert torch.autograd.gradcheck(
        CASES[name].call, (*tensors, c), check_forward_ad=True, check_backward_ad=False
    )
    tensors = trainable(make(name, 2, 3))
    assert torch.autograd.gradgradcheck(CASES[name].call, (*tensors, c), check_fwd_over_rev=True)


@every
def test_jacobians_and_hessians_of_torch_func(name):
    """Forward over reverse and forward over forward, those of reverse over reverse."""
    tensors = make(name, 2, 3)
    argnums = tuple(range(len(tensors)))

    def call(*each):
        return CASES[name].call(*each, 0.7)

    def total(*each):
        return call(*each).square().sum()

    jacobians = (f(call, argnums)(*tensors) for f in (torch.func.jacfwd, torch.func.jacrev))
    torch.testing.assert_close(*jacobians)
    expected = torch.autograd.functional.hessian(total, tuple(tensors))
    forward = torch.func.jacfwd(torch.func.jacfwd(total, argnums), argnums)
    for hessian in (torch.func.hessian(total, argnums), forward):
        torch.testing.assert_close(hessian(*tensors), expected, rtol=1e-8, atol=1e-8)


@every
@pytest.mark.parametrize('dtype', FLOATS)
def test_edges_have_finite_forward_derivatives(name, dtype):
    """At the origin, along an axis, at coincident points: the Jacobian by columns is finite."""
    case = CASES[name]
    if case.out == 'mapped':
        return
    for rows in edges('v', dtype, 3.0).split(3):
        points = [to_kind(kind, rows).to(dtype) for kind in case.inputs]
        jacobian = torch.func.jacfwd(lambda *each: case.call(*each, 0.7))(*points)
        assert jacobian.isfinite().all()


@curved
def test_forms_of_the_curvature_agree(name):
    tensors = make(name, 6, 4)
    expected = CASES[name].call(*tensors, 0.7)
    rank2 = (1, 1) if CASES[name].out in ('pairs', 'reduced') else (6, 1)
    for c in (torch.tensor(0.7), torch.full((1,), 0.7), torch.full(rank2, 0.7)):
        value = CASES[name].call(*tensors, c.double())
        torch.testing.assert_close(value, expected)


@curved
def test_each_batch_entry_has_its_curvature(name):
    tensors = make(name, 3, 6, 4)
    curvatures = torch.tensor([0.3, 0.7, 1.1], dtype=torch.float64).view(3, 1, 1)
    value = CASES[name].call(*tensors, curvatures)
    for k, c in enumerate(curvatures.flatten().tolist()):
        one = [tensor if tensor.ndim == 2 else tensor[k] for tensor in tensors]
        torch.testing.assert_close(value[k], CASES[name].call(*one, c))


@curved
@pytest.mark.parametrize('points', FLOATS)
@pytest.mark.parametrize('dtype', [*HALVES, *FLOATS])
@pytest.mark.parametrize('shape', [(), (1, 1)])
def test_dtype_of_the_curvature_is_free(name, points, dtype, shape):
    """The result is as exact as with the same curvature as a float, and not in half precision."""
    tensors = make(name, 6, 4, dtype=points)
    c = torch.full(shape, 0.7, dtype=dtype)
    value = CASES[name].call(*tensors, c)
    assert value.dtype == points or (c.ndim and value.dtype == torch.promote_types(points, dtype))
    expected = CASES[name].call(*tensors, c.double().max().item())
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5, check_dtype=False)


@every
def test_vmap(name):
    tensors = make(name, 3, 6, 4)
    in_dims = tuple(0 if tensor.ndim == 3 else None for tensor in tensors)

    def call(*each):
        return CASES[name].call(*each, 0.7)

    torch.testing.assert_close(torch.vmap(call, in_dims)(*tensors), call(*tensors))


@every
def test_func_grad(name):
    """Gradients a sample by torch.func, those of autograd."""
    tensors = make(name, 3, 6, 4)
    in_dims = tuple(0 if tensor.ndim == 3 else None for tensor in tensors)
    last = len(tensors) - 1

    def total(*each):
        return CASES[name].call(*each, 0.7).sum()

    value = torch.vmap(torch.func.grad(total, argnums=last), in_dims)(*tensors)
    leaf = tensors[last].requires_grad_()
    torch.testing.assert_close(value, torch.autograd.grad(total(*tensors), leaf)[0])


def compiled_agrees(name, backend):
    torch._dynamo.reset()
    tensors = trainable(make(name, 6, 4, dtype=torch.float32))
    c = torch.tensor(0.7)
    compiled = torch.compile(CASES[name].call, backend=backend, fullgraph=True)
    values = compiled(*tensors, c), CASES[name].call(*tensors, c)
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-5)
    grads = [torch.autograd.grad(value.square().sum(), tensors) for value in values]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    'name', ['lorentz.expmap0', 'lorentz.dist', 'lorentz.pairwise_dist', 'poincare.mobius_add']
)
def test_compiles_to_one_graph(name):
    compiled_agrees(name, 'aot_eager')


@pytest.mark.slow
@every
def test_every_op_compiles_to_one_graph(name):
    compiled_agrees(name, 'aot_eager')


@pytest.mark.slow
@pytest.mark.parametrize(
    'name', ['lorentz.dist', 'lorentz.pairwise_dist', 'lorentz.centroid', 'poincare.mobius_matvec']
)
def test_compiles_to_native_code(name):
    compiled_agrees(name, 'inductor')


@pytest.mark.gpu
@every
def test_device(name):
    """On the accelerator under autocast as on the processor."""
    tensors = make(name, 6, 4, dtype=torch.float32)
    expected = CASES[name].call(*tensors, 0.7)
    for dtype in HALVES:
        with torch.autocast('cuda', dtype):
            value = CASES[name].call(*[tensor.cuda() for tensor in tensors], 0.7)
        torch.testing.assert_close(value.cpu(), expected, rtol=1e-5, atol=1e-5)


@curved
@pytest.mark.parametrize('c', [0.0, -1.0, float('nan'), float('inf')])
def test_curvature_out_of_range(name, c):
    with pytest.raises(ValueError, match='must be positive and finite, got'):
        CASES[name].call(*make(name, 6, 4), c)


@curved
@pytest.mark.parametrize('c', [None, '1', True, torch.tensor(1)])
def test_curvature_of_wrong_type(name, c):
    with pytest.raises(TypeError, match='must be a f'):
        CASES[name].call(*make(name, 6, 4), c)


@curved
def test_curvature_of_wrong_shape(name):
    with pytest.raises(ValueError, match='0-dimensional or end in a dimension of size 1'):
        CASES[name].call(*make(name, 6, 4), torch.ones(6))


@curved
@pytest.mark.parametrize('value', [0.0, -1.0, float('nan'), float('inf')])
@pytest.mark.parametrize('entries', [1, 2])
def test_tensor_curvature_out_of_range(name, value, entries):
    """A tensor on a processor is read, though only one of its entries may be bad."""
    c = torch.ones(entries, 1, 1)
    c[-1] = value
    tensors = [t if t.shape[0] == 3 else t.expand(entries, 6, 4) for t in make(name, 6, 4)]
    with pytest.raises(ValueError, match=f'must be positive and finite, got {value}'):
        CASES[name].call(*tensors, c)


@curved
def test_curvature_of_lower_rank(name):
    """One value a batch entry, without the dimension of the points: equal sizes would hide it."""
    tensors = [t.expand(6, 6, 4) if t.shape[0] == 6 else t for t in make(name, 6, 4)]
    with pytest.raises(ValueError, match='the 3 dimensions of the points, got shape'):
        CASES[name].call(*tensors, torch.full((6, 1), 0.7))


@select(lambda case: case.out in ('pairs', 'reduced'))
def test_curvature_a_point_where_one_is_shared(name):
    with pytest.raises(ValueError, match=r'one value for all points .* got shape \(6, 1\)'):
        CASES[name].call(*make(name, 6, 4), torch.full((6, 1), 0.7))


@every
def test_integers_are_refused(name):
    with pytest.raises(TypeError, match=r'need floating point tensors, got torch\.int64'):
        CASES[name].call(*[tensor.long() for tensor in make(name, 6, 4)], 1.0)


@select(lambda case: len(case.inputs) == 2)
def test_shapes_that_do_not_fit_are_refused(name):
    first, second = make(name, 6, 4)
    with pytest.raises((RuntimeError, ValueError)):
        CASES[name].call(first, second[..., :3], 1.0)


def test_ops_need_torch_alone():
    """Importable, and usable, where no framework is."""
    frameworks = ['mmengine', 'mmcv', 'mmseg', 'mmdet', 'mmpretrain', 'cv2', 'geoopt', 'scipy']
    code = (
        'import sys\n'
        f'for name in {frameworks}: sys.modules[name] = None\n'
        'import torch, hyper_mm.ops as ops\n'
        'x = ops.lorentz.expmap0(torch.ones(2, 3), 1.0)\n'
        'assert ops.lorentz.pairwise_dist(x, x, 1.0).shape == (2, 2)\n'
        f'assert not [n for n in {frameworks} if sys.modules[n] is not None]\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
