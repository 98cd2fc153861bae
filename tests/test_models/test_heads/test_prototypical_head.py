"""The prototypical head and its segmentor."""

import pytest
import torch
from mmengine.config import ConfigDict

from hyper_mm.layers.meta.prototypes import DISTANCES
from hyper_mm.registry import MODELS

from .test_boundary_contrast_head import samples

pytestmark = pytest.mark.mmseg


def build(wrap=True, **head):
    pytest.importorskip('mmseg')
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    unet = dict(num_stages=2, strides=(1, 1), enc_num_convs=(1, 1), dec_num_convs=(1,))
    unet.update(downsamples=(True,), enc_dilations=(1, 1), dec_dilations=(1,), base_channels=8)
    model = dict(
        type='mmseg.EncoderDecoder',
        backbone=dict(type='UNet', **unet),
        decode_head=dict(type='hyper_mm.PrototypicalHead', **head),
        test_cfg=ConfigDict(mode='whole'),
    )
    if not wrap:
        return MODELS.build(model)
    return MODELS.build(dict(type='hyper_mm.PrototypicalSegmentor', model=model))


def episode():
    labels = torch.zeros(2, 16, 16, dtype=torch.long)
    labels[:, 4:12, 4:12] = 1
    labels[:, :2] = 255
    images = torch.randn(2, 3, 16, 16) + 3 * (labels == 1)[:, None]
    batch = dict(inputs=images, data_samples=samples(labels))
    for sample in batch['data_samples']:
        shape = dict(ori_shape=(16, 16), img_shape=(16, 16), pad_shape=(16, 16))
        sample.set_metainfo(dict(shape, padding_size=[0, 0, 0, 0]))
    return dict(support=batch, query=batch)


@pytest.mark.parametrize('distance', DISTANCES)
def test_training_and_prediction(distance):
    model = build(classifier=dict(distance=distance))
    data = [episode()]
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    first = None
    for _ in range(6):
        losses = model(data, mode='loss')
        total, _ = model.parse_losses(losses)
        first = first or total.item()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert {*losses} == {'loss_ce', 'loss_align'} and total < first
    model.eval()
    with torch.no_grad():
        found = model(data, mode='predict')
    assert len(found) == 2 and found[0].pred_sem_seg.data.shape == (1, 16, 16)
    assert model.model.decode_head.prototypes is None


@pytest.mark.parametrize('distance', DISTANCES)
@pytest.mark.parametrize('size', [0.0, 1e-4, 1.0, 9.0, 50.0, 1e4])
def test_features_of_any_size_train_and_segment(distance, size):
    model = build(classifier=dict(distance=distance, curvature=dict(learnable=True)))
    hook = model.model.backbone.register_forward_hook(lambda m, i, o: [size * x for x in o])
    data = [episode()]
    total, _ = model.parse_losses(model(data, mode='loss'))
    total.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert total.isfinite() and all(grad.isfinite().all() for grad in grads)
    found = model.eval()(data, mode='predict')
    assert all(sample.seg_logits.data.isfinite().all() for sample in found)
    hook.remove()


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
