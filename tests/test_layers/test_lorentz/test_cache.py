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
