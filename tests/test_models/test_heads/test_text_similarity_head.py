import pytest
import torch
import torch.nn.functional as F

from hyper_mm.layers.open_vocab.dense_clip import DenseFeatures
from hyper_mm.registry import MODELS


def build(**options):
    return MODELS.build(dict(type='hyper_mm.TextSimilarityHead', **options))


@pytest.mark.parametrize('scale', [1.0, 100.0])
def test_scores_are_probabilities_of_the_cosines(scale):
    torch.manual_seed(0)
    features, text = torch.randn(2, 8, 3, 4), torch.randn(5, 2, 8)
    head = build(scale=scale)
    found = head(DenseFeatures(features, ()), text)
    texts = F.normalize(F.normalize(text, dim=-1).mean(1), dim=-1)
    cosines = torch.einsum('bdhw,td->bthw', F.normalize(features, dim=1), texts)
    torch.testing.assert_close(found.sigmoid(), (scale * cosines).softmax(1), rtol=1e-4, atol=1e-6)
    assert torch.equal(found.argmax(1), cosines.argmax(1))
    assert not list(head.parameters())


def test_extremes_are_finite():
    features, text = torch.ones(1, 2, 1, 1), torch.tensor([[[1.0, 1.0]], [[-1.0, -1.0]]])
    found = build(scale=1e4)(DenseFeatures(features, ()), text)
    assert found.isfinite().all()
    assert found[0, :, 0, 0].sigmoid().round(decimals=5).tolist() == [1, 0]
    assert build()(DenseFeatures(features, ()), text[:1]).sigmoid().item() > 1 - 1e-6
    zero = build()(DenseFeatures(0 * features, ()), text)
    torch.testing.assert_close(zero.sigmoid().flatten(), torch.tensor([0.5, 0.5]))


def test_bad_input():
    for scale in (0, -1, float('nan')):
        with pytest.raises(ValueError, match='scale must be in'):
            build(scale=scale)
    with pytest.raises(TypeError, match='has nothing to train.*CostAggregationHead'):
        build().loss(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2))
