"""Meta-learning of models of the other frameworks."""

import pytest
import torch
from mmengine.structures import InstanceData

from hyper_mm.registry import MODELS


def learn(model, batch, algorithm):
    learner = MODELS.build(
        dict(type='hyper_mm.MetaLearner', model=model, algorithm=algorithm, inner_lr=0.01)
    )
    before = [p.detach().clone() for p in learner.parameters()]
    total, _ = learner.parse_losses(learner([dict(support=batch, query=batch)], mode='loss'))
    total.backward()
    assert total.isfinite()
    grads = [p.grad for p in learner.parameters() if p.grad is not None]
    assert grads and all(g.isfinite().all() for g in grads)
    assert all(torch.equal(a, b) for a, b in zip(before, learner.parameters()))


@pytest.mark.mmpretrain
@pytest.mark.parametrize('algorithm', ['maml', 'anil'])
def test_classifier(algorithm):
    pytest.importorskip('mmpretrain')
    from mmpretrain.structures import DataSample
    from mmpretrain.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    model = dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=32),
    )
    samples = [DataSample().set_gt_label(k) for k in range(3)]
    learn(model, dict(inputs=torch.randn(3, 3, 16, 16), data_samples=samples), algorithm)


@pytest.mark.mmdet
def test_detector():
    pytest.importorskip('mmdet')
    from mmdet.structures import DetDataSample
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules(init_default_scope=True)
    base = "_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'"
    model = Config.fromstring(base, '.py').model
    model.backbone.update(depth=18, init_cfg=None, frozen_stages=-1)
    model.neck.update(in_channels=[64, 128, 256, 512], out_channels=16)
    model.bbox_head.update(in_channels=16, feat_channels=16, stacked_convs=1, num_classes=2)
    shapes = dict.fromkeys(('img_shape', 'pad_shape', 'batch_input_shape'), (64, 64))
    sample = DetDataSample(metainfo=dict(shapes, scale_factor=(1, 1)))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[5.0, 5.0, 40.0, 40.0]]), labels=torch.tensor([1])
    )
    learn(model, dict(inputs=torch.randn(1, 3, 64, 64), data_samples=[sample]), 'fomaml')
