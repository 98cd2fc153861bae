"""One harness for every geometry op; what single ops promise is tested in the files beside it."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch

from hyper_mm.ops import lorentz, poincare
from tests.helpers.op_cases import (
    CASES,
    MODULES,
    RANDOM,
    edges,
    elementwise,
    every,
    expected_shape,
    finite_everywhere,
    make,
    pairwise,
    select,
    trainable,
)

from ..conftest import no_old_dynamo
from .conftest import AUTOCAST, FLOATS, HALVES


def test_table_holds_every_public_op():
    public = {f'{m.__name__.split(".")[-1]}.{op}' for m in MODULES for op in m.__all__}
    assert public - RANDOM == set(CASES)


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
@pytest.mark.parametrize('dtype', AUTOCAST)
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
@pytest.mark.parametrize('dtype', AUTOCAST)
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
def test_dimensions_must_agree(name):
    """A last dimension of 1 would broadcast."""
    case = CASES[name]
    tensors = make(name, 3, 4, dtype=torch.float32)
    if len(tensors) < 2 or case.out == 'mapped':
        return
    for k in range(len(tensors)):
        if tensors[k].shape[-1:] == (4,):
            wrong = [*tensors[:k], tensors[k][..., :1], *tensors[k + 1 :]]
            with pytest.raises(ValueError, match='dimension'):
                case.call(*wrong, 1.0)


@every
def test_each_pair_of_edges_alone_is_finite(name):
    """Fast paths are taken by all rows of a call or by none: one row at a time."""
    case = CASES[name]
    points = [edges(kind, torch.float32, far=3.0) for kind in case.inputs]
    if case.out == 'mapped':
        points[0] = points[0][:3]
    rows = [[p] if k == 0 and case.out == 'mapped' else p.split(1) for k, p in enumerate(points)]
    for pair in itertools.product(*rows[:2]):
        finite_everywhere(name, [*pair, *(p[:1] for p in points[2:])])


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


def compiled_agrees(name, backend):
    torch._dynamo.reset()
    tensors = trainable(make(name, 6, 4, dtype=torch.float32))
    c = torch.tensor(0.7)
    compiled = torch.compile(CASES[name].call, backend=backend, fullgraph=True)
    values = compiled(*tensors, c), CASES[name].call(*tensors, c)
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-5)
    grads = [torch.autograd.grad(value.square().sum(), tensors) for value in values]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)


@no_old_dynamo
@pytest.mark.parametrize(
    'name', ['lorentz.expmap0', 'lorentz.dist', 'lorentz.pairwise_dist', 'poincare.mobius_add']
)
def test_compiles_to_one_graph(name):
    compiled_agrees(name, 'aot_eager')


@no_old_dynamo
def test_compiled_code_takes_any_curvature():
    """From the second number on the compiler takes it as a symbol."""
    torch._dynamo.reset()
    x, y = make('lorentz.dist', 6, 4, dtype=torch.float32)
    compiled = torch.compile(lorentz.dist, backend='eager', fullgraph=True)
    for c in (1.0, 0.7, 2.0):
        torch.testing.assert_close(compiled(x, y, c), lorentz.dist(x, y, c), rtol=1e-5, atol=1e-6)
    step = torch.compile(lorentz.geodesic, backend='eager', fullgraph=True)
    for t in (0.1, 0.4, 0.9):
        expected = lorentz.geodesic(x, y, t, 0.7)
        torch.testing.assert_close(step(x, y, t, 0.7), expected, rtol=1e-5, atol=1e-6)


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


@select(lambda case: case.call.__name__ != '<lambda>')
def test_numbers_are_no_points(name):
    """They would broadcast with vectors of any space."""
    tensors = make(name, 3, 4)
    for k in range(len(tensors)):
        given = [torch.tensor(0.1) if i == k else x for i, x in enumerate(tensors)]
        with pytest.raises(ValueError, match='shape|dimension'):
            CASES[name].call(*given, 0.7)


@select(lambda case: case.call.__name__.startswith(('pairwise_inner', 'pairwise_dist')))
@pytest.mark.parametrize('dtype', FLOATS)
def test_pairs_are_of_sets(name, dtype):
    x, y = make(name, 3, 4, dtype=dtype)
    for given in ((x[0], y), (x, y[0]), (x[0], y[0])):
        with pytest.raises(ValueError, match=r'points must be of shape \(..., n, d\), got \(4,\)'):
            CASES[name].call(*given, 0.7)
