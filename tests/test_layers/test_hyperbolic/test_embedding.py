"""Embedding of graphs."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from hyper_mm.layers import HyperbolicEmbedding
from hyper_mm.layers.hyperbolic.embedding import embedding_quality, tree_distances
from hyper_mm.ops import lorentz

BINARY = torch.tensor([-1, *((i - 1) // 2 for i in range(1, 15))])


def test_distances_of_a_tree():
    hops = tree_distances(BINARY)
    assert torch.equal(hops, hops.T)
    assert hops[0].tolist() == [0, 1, 1, 2, 2, 2, 2] + [3] * 8
    assert hops[7, 14] == 6
    assert hops[7, 8] == 2


@pytest.mark.parametrize('parents', [[], [0], [-1, 1], [-1, 2, 0]])
def test_refuses_what_is_no_tree(parents):
    with pytest.raises(ValueError, match='parents must be -1 for the first node'):
        tree_distances(torch.tensor(parents))


def test_points_and_distances():
    model = HyperbolicEmbedding(6, 3, curvature=0.5, spread=1.0)
    x = model()
    assert_close(model(torch.tensor([[1, 2]])), x[1:3][None])
    full = lorentz.pairwise_dist(x, x, 0.5)
    assert_close(model.pairwise(), full, rtol=1e-5, atol=1e-6)
    assert_close(model.distances(torch.tensor(1), torch.arange(6)), full[1], rtol=1e-5, atol=1e-6)
    assert sum(p.numel() for p in model.parameters()) == 18


def test_quality_of_perfect_and_of_shuffled_distances():
    hops = tree_distances(BINARY)
    distortion, precision = embedding_quality(2.5 * hops, hops)
    assert distortion == pytest.approx(0.0, abs=1e-6)
    assert precision == pytest.approx(1.0)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(0))
    distortion, precision = embedding_quality(hops[order][:, order], hops)
    assert distortion > 0.3
    assert precision < 0.6


def test_a_tree_is_embedded_better_than_in_the_plane():
    """Ten lines; the flat plane has no room for the leaves."""
    hops, found = tree_distances(BINARY), {}
    above = hops.triu(1)[hops.triu(1) > 0]
    for curvature in (1e-3, 1.0):
        torch.manual_seed(0)
        options = dict(init=curvature, bounds=(1e-4, 10.0), learnable=False)
        model = HyperbolicEmbedding(15, 2, options, spread=0.1)
        optimizer = torch.optim.Adam(model.parameters(), 0.2)
        for _ in range(300):
            optimizer.zero_grad()
            distances = model.pairwise()[torch.triu(torch.ones(15, 15), 1) > 0]
            (distances / above - 1).square().mean().backward()
            optimizer.step()
        found[curvature] = embedding_quality(model.pairwise().detach(), hops)[0]
    assert found[1.0] < 0.6 * found[1e-3]
