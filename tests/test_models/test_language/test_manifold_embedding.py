"""Token embedding for Riemannian optimizers."""

import sys

import pytest
import torch

from hyper_mm.layers.lorentz.embedding import LorentzEmbedding
from hyper_mm.models.language.manifold_embedding import ManifoldEmbedding
from hyper_mm.ops import lorentz


@pytest.mark.parametrize('c', [0.5, 1.0])
def test_initial_points_are_those_of_the_projected_table(c):
    geoopt = pytest.importorskip('geoopt')
    tables = []
    for kind in (LorentzEmbedding, ManifoldEmbedding):
        torch.manual_seed(0)
        tables.append(kind(20, 7, c, distance=2.0))
    ids = torch.randint(0, 20, (2, 5))
    torch.testing.assert_close(*(table(ids) for table in tables))
    weight = tables[1].weight
    assert isinstance(weight, geoopt.ManifoldParameter) and weight.shape == (20, 8)
    time, space = weight.detach().split([1, 7], -1)
    torch.testing.assert_close(time, lorentz.time(space, c, keepdim=True))
    torch.testing.assert_close(weight.manifold.k, torch.tensor(1 / c))


def test_bad_input(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'geoopt', None)
        with pytest.raises(ImportError, match="embedding='manifold' needs geoopt"):
            ManifoldEmbedding(20, 7)
    pytest.importorskip('geoopt')
    with pytest.raises(ValueError, match='distance must be in'):
        ManifoldEmbedding(20, 7, distance=0.0)
    with pytest.raises(ValueError, match='ids must be 0 to 19, got 0 to 20'):
        ManifoldEmbedding(20, 7)(torch.tensor([0, 20]))
