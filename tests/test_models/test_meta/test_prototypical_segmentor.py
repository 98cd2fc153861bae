"""Few-shot segmentation by prototypes, without inner steps."""

import pytest
import torch

from hyper_mm.layers.meta.prototypes import DISTANCES
from hyper_mm.registry import MODELS
from tests.helpers.prototypes import build, episode

pytestmark = pytest.mark.mmseg


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


def test_a_model_without_a_prototypical_head_is_refused():
    from mmengine.config import ConfigDict

    model = build(wrap=False)
    plain = ConfigDict(type='mmseg.FCNHead', in_channels=8, channels=8, num_classes=2)
    model.decode_head = MODELS.build(dict(plain, num_convs=1))
    with pytest.raises(TypeError, match='must be a hyper_mm.PrototypicalHead, got FCNHead'):
        MODELS.build(dict(type='hyper_mm.PrototypicalSegmentor', model=model))
