"""Initialization of linear maps and of the table of tokens."""

import math

import pytest
import torch
from torch import nn

from hyper_mm.layers.lorentz.attention import HMLA
from hyper_mm.layers.lorentz.embedding import LorentzEmbedding
from hyper_mm.layers.lorentz.initialization import gain_of, initialize_maps
from hyper_mm.layers.lorentz.mice import MiCE


def stack():
    torch.manual_seed(0)
    return nn.ModuleList([HMLA(47, 4, 12, 8, 8, 12), MiCE(47, 40)])


def test_maps_are_drawn_and_nothing_else():
    module, plain = stack(), dict(stack().named_parameters())
    initialize_maps(module, 0.02)
    drawn = 0
    for name, parameter in module.named_parameters():
        is_map = parameter.ndim > 1 and not name.endswith(('gate', 'b1', 'b2', 'b3'))
        drawn += is_map
        assert torch.equal(parameter, plain[name]) != is_map, name
        if is_map:
            # relative standard error of a deviation of n numbers: 1 / sqrt(2 n)
            assert abs(parameter.std() / 0.02 - 1) < 5 / math.sqrt(2 * parameter.numel()), name
    assert drawn == 4 + 3 + 3
    initialize_maps(module, None)
    assert all(
        torch.equal(a, b) for a, b in zip(stack().parameters(), map(nn.Parameter, plain.values()))
    )
    with pytest.raises(ValueError, match='std must be in'):
        initialize_maps(module, 0.0)


@pytest.mark.parametrize('c, distance', [(1.0, 1.0), (0.3, 2.0)])
def test_gain_is_between_a_small_table_and_its_points(c, distance):
    gain = gain_of(131, 0.02, c, distance)
    table = LorentzEmbedding(200, 131, c, distance, gain)
    # rows are of one length, so the root of the mean square is exact
    assert table.weight.square().mean().sqrt().item() == pytest.approx(0.02, rel=1e-5)
    plain = math.sinh(math.sqrt(c) * distance) / math.sqrt(c)
    lengths = table(torch.arange(200)).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, plain))
    assert gain_of(131, None, c, distance) == 1
