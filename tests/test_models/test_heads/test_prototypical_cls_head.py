"""The prototypical head of classifiers."""

import pytest
import torch

from hyper_mm.registry import MODELS
from tests.helpers.few_shot import build, episode

pytestmark = pytest.mark.mmpretrain


def test_default_is_the_squared_distance():
    head = MODELS.build(dict(type='hyper_mm.PrototypicalClsHead'))
    features = (torch.tensor([[0.0, 0.0], [0.0, 2.0], [4.0, 0.0]]),)
    head.set_support(features, torch.tensor([0, 0, 1]))
    logits = head((torch.tensor([[0.0, 0.0]]),))
    torch.testing.assert_close(logits, torch.tensor([[-1.0, -16.0]]))


@pytest.mark.parametrize('labels', [[0, 0, 2], [-1, 0, 1]])
def test_labels_of_a_support(labels):
    head = MODELS.build(dict(type='hyper_mm.PrototypicalClsHead'))
    with pytest.raises(ValueError, match='labels must be 0..'):
        head.set_support((torch.randn(3, 2),), torch.tensor(labels))


def test_bad_input():
    with pytest.raises(ValueError, match='num_classes'):
        build(num_classes=1)
    with pytest.raises(ValueError, match='distance'):
        build(classifier=dict(distance='l1'))
    head = MODELS.build(dict(type='hyper_mm.PrototypicalClsHead'))
    with pytest.raises(ValueError, match='GlobalAveragePooling'):
        head.set_support((torch.randn(2, 3, 4, 4),), torch.tensor([0, 1]))
    model, one = build(num_classes=2).eval(), episode(ways=3)
    with pytest.raises(ValueError, match='labels must be 0..1'):
        model([one], mode='predict')
    model = build().eval()
    one['query']['inputs'][:] = torch.nan
    with torch.no_grad(), pytest.raises(RuntimeError, match='not finite'):
        model([one], mode='predict')
