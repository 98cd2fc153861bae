"""Curvatures that every geometry op takes, and those that it refuses."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.op_cases import CASES, curved, make, select

from .conftest import FLOATS, HALVES


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
