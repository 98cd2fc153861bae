"""Backbones of timm whose batch norms keep their statistics."""

import pytest
import torch

pytest.importorskip('mmpretrain')
pytest.importorskip('timm')
pytestmark = pytest.mark.mmpretrain

from hyper_mm.registry import MODELS  # noqa: E402


@pytest.mark.parametrize('norm_eval', [True, False])
def test_statistics_stay_and_weights_train(norm_eval):
    model = MODELS.build(
        dict(
            type='hyper_mm.NormEvalTIMMBackbone',
            model_name='resnet10t',
            features_only=True,
            norm_eval=norm_eval,
        )
    )
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    state = norms[0].running_mean.clone()
    model.train()
    sum(x.mean() for x in model(torch.randn(2, 3, 64, 64))).backward()
    assert torch.equal(norms[0].running_mean, state) == norm_eval
    assert norms[0].weight.grad is not None
    assert not any(m.training for m in model.eval().modules())
