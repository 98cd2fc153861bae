"""Linear maps whose gradients are products of other widths."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hyper_mm.ops import products

from ..conftest import no_old_dynamo


@pytest.fixture
def taken(monkeypatch):
    """How often the function with a gradient of its own was taken."""
    found, apply = [], products._Linear.apply
    monkeypatch.setattr(products._Linear, 'apply', lambda *a: found.append(a) or apply(*a))
    return found


def maps(count, dims, bias=True, dtype=torch.float64):
    weights = [torch.randn(3 + i, dims, dtype=dtype).requires_grad_() for i in range(count)]
    biases = [torch.randn(3 + i, dtype=dtype).requires_grad_() for i in range(count)]
    return weights, biases if bias else [None] * count


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('dims', [5, 8, 13])
@pytest.mark.parametrize('count', [1, 3])
def test_equals_linear_maps_one_by_one(count, dims, bias, taken):
    weights, biases = maps(count, dims, bias)
    x = torch.randn(2, 40, dims, dtype=torch.float64, requires_grad=True)
    leaves = [x, *weights, *(b for b in biases if b is not None)]
    cot = torch.randn(2, 40, sum(map(len, weights)), dtype=torch.float64)
    wanted = torch.cat([F.linear(x, w, b) for w, b in zip(weights, biases)], -1)
    found = products.linear(x, weights, biases)
    assert len(taken) == 1
    torch.testing.assert_close(found, wanted)
    for create_graph in (False, True):
        grads = [
            torch.autograd.grad((y * cot).sum(), leaves, create_graph=create_graph, retain_graph=1)
            for y in (found, wanted)
        ]
        torch.testing.assert_close(*grads)
    for seconds in zip(
        *(
            torch.autograd.grad(sum(g.square().sum() for g in grad), leaves, allow_unused=True)
            for grad in grads
        ),
        leaves,
    ):
        zeros = torch.zeros_like(seconds[2])  # biases have no second derivatives
        torch.testing.assert_close(*(zeros if g is None else g for g in seconds[:2]))


def test_gradients_that_nobody_needs(taken):
    weights, biases = maps(2, 5)
    x = torch.randn(70, 5, dtype=torch.float64)
    weights[0].requires_grad_(False)
    products.linear(x, weights, biases).sum().backward()
    assert len(taken) == 1 and x.grad is None and weights[0].grad is None
    torch.testing.assert_close(weights[1].grad, x.sum(0).expand(4, -1))
    torch.testing.assert_close(biases[0].grad, torch.full((3,), 70.0, dtype=torch.float64))


def test_where_plain_maps_are_taken(taken):
    weight = torch.randn(16, 8, requires_grad=True)
    assert products.linear(torch.randn(70, 8), [weight], [None]).shape == (70, 16)
    weights, biases = maps(2, 5, dtype=torch.float32)
    x = torch.randn(70, 5)
    wanted = torch.cat([F.linear(x, w, b) for w, b in zip(weights, biases)], -1)
    with torch.no_grad():
        torch.testing.assert_close(products.linear(x, weights, biases), wanted)
    torch.testing.assert_close(products.linear(x[:3], weights, biases), wanted[:3])
    with torch.autocast('cpu', torch.bfloat16):
        assert products.linear(x, weights, biases).dtype == torch.bfloat16
    half = [w.detach().bfloat16().requires_grad_() for w in weights]
    assert products.linear(x.bfloat16(), half, [None, None]).dtype == torch.bfloat16
    every = torch.func.vmap(lambda row: products.linear(row, weights, biases))(x)
    torch.testing.assert_close(every, wanted)
    assert not taken


@no_old_dynamo
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('count, dims', [(1, 5), (1, 8), (3, 13)])
def test_compiled_maps_are_filled(count, dims, bias):
    """Rows of a matrix product are whole vectors in compiled training, too."""
    weights, biases = maps(count, dims, bias)
    x = torch.randn(2, 7, dims, dtype=torch.float64, requires_grad=True)
    leaves = [x, *weights, *(b for b in biases if b is not None)]
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(products.linear, backend=backend, fullgraph=True)
    results = []
    for function in (products.linear, compiled):
        y = function(x, weights, biases)
        results.append((y.detach(), *torch.autograd.grad(y.square().sum(), leaves)))
    torch.testing.assert_close(*results)
    (linear,) = (n for n in graphs[0].graph.nodes if 'linear' in str(n.target))
    assert linear.meta['example_value'].shape[-1] % 8 == 0
    assert linear.args[0].meta['example_value'].shape[-1] % 8 == 0
    with torch.no_grad():  # where no gradient needs them
        torch.testing.assert_close(compiled(x, weights, biases), results[0][0])
