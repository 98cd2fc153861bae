"""The prototypical head and its segmentor."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.helpers.prototypes import build, episode

pytestmark = pytest.mark.mmseg


def test_logits_that_are_not_finite_are_no_background():
    model, data = build().eval(), [episode()]
    with torch.no_grad():
        next(model.model.backbone.parameters()).fill_(torch.nan)
        with pytest.raises(RuntimeError, match='logits are not finite, since the prototypes'):
            model(data, mode='predict')
    model = build().eval()
    data[0]['query']['inputs'][:] = torch.nan
    data[0]['support'] = episode()['support']
    with torch.no_grad(), pytest.raises(RuntimeError, match='since the features are not'):
        model(data, mode='predict')


def test_align_weight_zero_leaves_it_out():
    assert {*build(align_weight=0)([episode()], mode='loss')} == {'loss_ce'}


def test_bad_input():
    with pytest.raises(ValueError, match='num_classes'):
        build(num_classes=1)
    with pytest.raises(ValueError, match='align_weight'):
        build(align_weight=-1)
    with pytest.raises(ValueError, match='distance'):
        build(classifier=dict(distance='l1'))
    plain = build(wrap=False)
    with pytest.raises(NotImplementedError, match='PrototypicalSegmentor'):
        plain(**episode()['query'], mode='loss')
    with pytest.raises(RuntimeError, match='set_support'):
        plain(torch.zeros(1, 3, 16, 16))
    data = episode()
    data['support']['data_samples'][0].gt_sem_seg.data[0, 0, 0] = 2
    with pytest.raises(ValueError, match='labels'):
        build()([data], mode='loss')


def test_threads_segment_by_their_own_support():
    model = build().eval()
    data = [episode() for _ in range(6)]

    def predict(one):
        with torch.no_grad():
            found = model.episode_predict(one['support'], [one['query']])
        return torch.stack([sample.seg_logits.data for sample in found])

    wanted = [predict(one) for one in data]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(predict, data * 3))
    for i, logits in enumerate(found):
        torch.testing.assert_close(logits, wanted[i % 6])
    assert model.model.decode_head.prototypes is None


def test_a_support_with_gradients_can_be_copied():
    head = build().model.decode_head
    maps, labels = torch.randn(2, 8, 4, 4, requires_grad=True), torch.zeros(2, 4, 4).long()
    labels[:, 1:3] = 1
    head.set_support([maps], labels)
    assert torch.equal(copy.deepcopy(head).prototypes, head.prototypes)
