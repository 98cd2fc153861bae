"""Derivatives of every geometry op: autograd, forward mode, torch.func."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.op_cases import CASES, edges, every, make, to_kind, trainable

from .conftest import FLOATS, randn


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


@every
def test_many_gradients_at_once(name):
    """`is_grads_batched`, of `jacobian(vectorize=True)`: as so many passes, once and twice."""
    tensors = trainable(make(name, 3, 4, dtype=torch.float32))
    value = CASES[name].call(*tensors, 0.7)
    pulls = randn(2, *value.shape, seed=5).float()
    found = torch.autograd.grad(value, tensors, pulls, retain_graph=True, is_grads_batched=True)
    again = {'retain_graph': True, 'create_graph': True}
    singles = [torch.autograd.grad(value, tensors, pull, **again) for pull in pulls]
    for one, *others in zip(found, *singles):
        assert_close(one, torch.stack(others), rtol=1e-4, atol=1e-4)
    total = sum(g.square().sum() for g in singles[0])
    if not total.requires_grad:  # linear in all of its inputs
        return
    options = {'retain_graph': True, 'allow_unused': True}
    scale = torch.tensor([1.0, -2.0])
    found = torch.autograd.grad(total, tensors, scale, is_grads_batched=True, **options)
    for one, other in zip(found, torch.autograd.grad(total, tensors, **options)):
        if other is not None:
            expected = torch.stack([other, -2 * other])
            assert_close(one, expected, rtol=1e-4, atol=1e-3)


@every
def test_many_gradients_under_vmap(name):
    """Those of a graph that was made outside of the transform."""
    tensors = trainable(make(name, 3, 4, dtype=torch.float32))
    value = CASES[name].call(*tensors, 0.7)
    pulls = randn(2, *value.shape, seed=5).float()

    def pulled(pull):
        return torch.autograd.grad(value, tensors, pull, retain_graph=True)

    for one, *others in zip(torch.vmap(pulled)(pulls), *map(pulled, pulls)):
        assert_close(one, torch.stack(others), rtol=1e-4, atol=1e-4)
