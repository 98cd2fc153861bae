"""Tensors of a forward pass that are shown to who asks."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from hyper_mm.models.utils.observed import observe, observing


def test_only_while_asked_for():
    x = torch.ones(2, requires_grad=True)
    observe(pixels=x)
    with observing() as found:
        assert found == {}
        observe(pixels=2 * x)
    observe(pixels=3 * x)
    assert torch.equal(found['pixels'], torch.full((2,), 2.0))
    assert not found['pixels'].requires_grad


def test_the_inner_one_hides_the_outer_one():
    with observing() as outer:
        with observing() as inner:
            observe(a=torch.zeros(1))
        observe(b=torch.zeros(1))
    assert inner.keys() == {'a'} and outer.keys() == {'b'}


def test_other_threads_see_nothing():
    with observing() as found, ThreadPoolExecutor(1) as pool:
        pool.submit(observe, a=torch.zeros(1)).result()
    assert found == {}


def test_it_ends_with_an_error():
    with pytest.raises(RuntimeError), observing() as found:
        raise RuntimeError
    observe(a=torch.zeros(1))
    assert found == {}
