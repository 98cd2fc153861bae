"""Decoder of a U-Net behind any backbone."""

import pytest
import torch

pytest.importorskip('mmseg')
pytestmark = pytest.mark.mmseg

from mmengine.config import Config  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

from hyper_mm.registry import MODELS  # noqa: E402
from tests.conftest import REPO  # noqa: E402


def build(**options):
    cfg = dict(type='hyper_mm.UNetDecoder', in_channels=[8, 16, 24], out_channels=[8, 8])
    return MODELS.build(dict(cfg, **options))


def levels(size=16):
    return [torch.randn(2, c, size >> i, size >> i) for i, c in enumerate((8, 16, 24))]


def test_every_level_counts():
    neck = build()
    inputs = [x.requires_grad_() for x in levels()]
    (found,) = neck(inputs)
    assert found.shape == (2, 8, 16, 16)
    found.square().sum().backward()
    assert all(x.grad.abs().sum() > 0 for x in inputs)
    assert all(p.grad is not None for p in neck.parameters())


def test_bad_input():
    with pytest.raises(ValueError, match='one less'):
        build(out_channels=[8])
    with pytest.raises(ValueError, match='size_divisor'):
        build()([*levels()[:2], torch.randn(2, 24, 5, 4)])


def test_the_pretrained_unet_segments():
    pytest.importorskip('timm')
    pytest.importorskip('mmpretrain')
    init_default_scope('mmseg')
    cfg = Config.fromfile(REPO / 'configs/_base_/models/unet_efficientnet-lite0.py').segmentor
    cfg.backbone.init_cfg = None
    model = MODELS.build(cfg).train()
    norms = [m for m in model.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)
    before = norms[0].running_mean.clone()
    logits = model(torch.randn(1, 3, 64, 96))
    assert logits.shape == (1, 2, 32, 48)
    assert torch.equal(norms[0].running_mean, before)
