"""The prototypical head and its segmentor."""

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
