"""Token embedding on the hyperboloid."""

import math

import pytest
import torch

from hyper_mm.layers.lorentz.embedding import LorentzEmbedding
from hyper_mm.ops import lorentz


@pytest.mark.parametrize('c', [0.3, 1.0])
@pytest.mark.parametrize('options', [{}, {'distance': 3.0}])
def test_points_start_at_a_distance(c, options):
    points = LorentzEmbedding(50, 8, c, **options)(torch.arange(50).view(5, 10))
    assert points.shape == (5, 10, 8)
    wanted = torch.full((5, 10), options.get('distance', 1.0))
    torch.testing.assert_close(lorentz.dist0(points, c), wanted)


@pytest.mark.parametrize('ids', [[-1, 0], [3, 50]])
def test_ids_outside_the_vocabulary(ids):
    with pytest.raises(ValueError, match='must be 0 to 49'):
        LorentzEmbedding(50, 8)(torch.tensor(ids))


def test_bad_input():
    with pytest.raises(TypeError, match='must be integers'):
        LorentzEmbedding(50, 8)(torch.zeros(3))
    with pytest.raises(ValueError, match='must be positive'):
        LorentzEmbedding(0, 8)
    for distance in (0.0, float('inf')):
        with pytest.raises(ValueError, match='distance must be in'):
            LorentzEmbedding(50, 8, distance=distance)


def test_curvature_is_that_of_the_points():
    """At one distance the space components are longer, the more the space is curved."""
    lengths = [
        LorentzEmbedding(50, 8, curvature=c, distance=2.0).weight.norm(dim=-1) for c in (0.3, 1.0)
    ]
    for length, c in zip(lengths, (0.3, 1.0)):
        wanted = math.sinh(2 * c**0.5) / c**0.5
        torch.testing.assert_close(length, torch.full_like(length, wanted))


def test_gain_is_between_table_and_points():
    torch.manual_seed(0)
    plain = LorentzEmbedding(50, 8)
    torch.manual_seed(0)
    table = LorentzEmbedding(50, 8, gain=5.0)
    torch.testing.assert_close(5 * table.weight, plain.weight)
    ids = torch.arange(50)
    torch.testing.assert_close(table(ids), plain(ids))
    table(ids).sum().backward()
    assert (table.weight.grad == 5).all()
    assert table.bfloat16()(ids).dtype == torch.float32  # not rounded twice
    with pytest.raises(ValueError, match='gain must be in'):
        LorentzEmbedding(50, 8, gain=0.0)
