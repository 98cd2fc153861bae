"""What is computed as in the official code of Hi-Mapper."""

import math

import pytest
import torch

from hyper_mm.layers import HierarchyMapper
from hyper_mm.layers.himapper.official import official_expmap0
from hyper_mm.ops import lorentz
from tests.helpers.hierarchy import NODES, contrastive_loss


def test_official_expmap0_by_its_definition():
    u = torch.tensor([[0.5, 0.3, 0.4], [0.1, 3.0, 4.0], [2.0, 0.1, 0.1]], dtype=torch.float64)
    h = official_expmap0(u)
    for row, (a, b, c) in zip(h, u.tolist()):
        norm = math.sqrt(max(b * b + c * c - a * a, 1e-9))
        short = min(norm, 1.5)
        expected = [math.sinh(short) * x / norm for x in (a, b, c)]
        expected[0] += math.cosh(short)
        torch.testing.assert_close(row, torch.tensor(expected, dtype=torch.float64))


def test_official_compat_uses_the_official_lift_and_sign():
    mapper = HierarchyMapper(
        12,
        width=16,
        num_heads=2,
        tree=dict(num_leaves=8, num_levels=3),
        lift=dict(hyp_dim=6, max_radius=None),
        compat='official',
    )
    levels = tuple(torch.randn(2, n, 12) for n in NODES)
    losses, _ = mapper.losses(levels)
    h = official_expmap0(mapper.lift(torch.cat(levels, 1))[0])
    expected = contrastive_loss(lorentz.pairwise_dist(h, h, 1.0).double(), sign=1)
    assert losses['cont'].item() == pytest.approx(0.1 * expected, rel=1e-5)
