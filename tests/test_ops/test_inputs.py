"""Dtypes and curvatures that ops are given."""

from __future__ import annotations

import pytest
import torch

from hyper_mm.ops import inputs

from .conftest import HALVES


@pytest.mark.parametrize('dtype', HALVES)
def test_upcast(dtype):
    half = torch.ones(2, dtype=dtype)
    assert [t.dtype for t in inputs.upcast(half)] == [torch.float32]
    assert [t.dtype for t in inputs.upcast(half, half.double())] == [torch.float64] * 2
    single = torch.ones(2)
    assert inputs.upcast(single)[0] is single


def test_upcast_names_what_it_got():
    with pytest.raises(TypeError, match='got list'):
        inputs.upcast([1.0])
    with pytest.raises(TypeError, match=r'got torch\.bool'):
        inputs.upcast(torch.ones(2, dtype=torch.bool))


def test_check_curvature():
    assert inputs.check_curvature(2) == 2
    for shape in ((), (1,), (3, 1)):
        c = torch.full(shape, 0.5, requires_grad=True)
        assert inputs.check_curvature(c) is c
    assert inputs.check_curvature(torch.tensor(0.5).half()).dtype == torch.float32
    with pytest.raises(ValueError, match=r'c_in must be positive and finite, got -2'):
        inputs.check_curvature(-2, name='c_in')


def test_roots():
    c = torch.tensor([[4.0]])
    assert inputs.sqrt(4.0) == inputs.wide_sqrt(4.0) == 2.0
    assert inputs.sqrt(c).dtype == torch.float32
    assert inputs.wide_sqrt(c).dtype == torch.float64
    assert inputs.per_point(c).shape == (1,)
    assert inputs.per_point(2.0) == 2.0
    assert inputs.per_point(c.sum()).shape == ()
