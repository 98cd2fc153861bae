"""Rows that attention keeps of the tokens so far."""

import pytest
import torch

from hyper_mm.layers.lorentz.cache import TokenCache


def test_cache_grows_and_refuses_what_does_not_fit():
    cache, rows = TokenCache(), torch.randn(2, 300, 5)
    for part in rows.split(37, 1):
        cache.append(part)
    assert torch.equal(cache.append(rows[:, :0]), rows)
    with pytest.raises(ValueError, match='must be as those before'):
        cache.append(torch.randn(3, 1, 5))
    with pytest.raises(ValueError, match='no_grad'):
        cache.append(rows.requires_grad_())


def test_capacity_and_order():
    cache = TokenCache(100)
    cache.append(torch.zeros(3, 2, 4))
    buffer = cache._buffer
    assert buffer.shape == (3, 100, 4)
    rows = torch.arange(3.0).view(3, 1, 1).expand(3, 90, 4)
    cache.append(rows)
    assert cache._buffer is buffer  # nothing was laid out anew
    cache.reorder(torch.tensor([2, 0, 0]))
    found = cache.append(torch.zeros(3, 1, 4))
    assert found[:, 50, 0].tolist() == [2, 0, 0]
    TokenCache().reorder(torch.tensor([0]))
    with pytest.raises(ValueError, match='capacity must be at least 1'):
        TokenCache(0)
