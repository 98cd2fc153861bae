"""Gradients of a formula that others follow."""

import torch
from torch.testing import assert_close

from hyper_mm.ops.backward import recorded_gradients, takes_plain_backward

from .conftest import randn


def formula(x, factor, y):
    return factor * x.square() * y


class Product(torch.autograd.Function):
    """Asks which pass is to be made, and makes it."""

    asked: list = []

    @staticmethod
    def forward(ctx, x, factor, y):
        ctx.factor = factor
        ctx.save_for_backward(x, y)
        return formula(x, factor, y)

    @staticmethod
    def backward(ctx, grad):
        Product.asked.append(takes_plain_backward(grad))
        x, y = ctx.saved_tensors
        return recorded_gradients(formula, (x, ctx.factor, y), grad)


def test_passes_are_told_apart():
    """Once; to be differentiated again; of many gradients, by autograd and by a transform."""
    Product.asked.clear()
    x, y = randn(2, 3).unbind()
    x.requires_grad_()
    value, pulls = Product.apply(x, 2.0, y), randn(4, 3, seed=1)

    def pulled(pull, **options):
        return torch.autograd.grad(value, x, pull, retain_graph=True, **options)[0]

    once = torch.stack([pulled(pull) for pull in pulls])
    assert Product.asked == [False] * 4
    again = pulled(pulls[0], create_graph=True)
    many = (pulled(pulls, is_grads_batched=True), torch.vmap(pulled)(pulls))
    assert Product.asked == [False] * 4 + [True] * 3
    assert_close(once, 4 * x * y * pulls)
    assert_close(again, once[0])
    assert_close(torch.autograd.grad(again.sum(), x)[0], 4 * y * pulls[0])
    for found in many:
        assert_close(found, once)


def test_only_inputs_that_need_them_get_gradients():
    x, y = randn(2, 3).unbind()
    x.requires_grad_()
    Product.apply(x, 2.0, y).sum().backward()
    assert_close(x.grad, 4 * x * y)
    assert y.grad is None
