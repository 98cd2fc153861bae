"""The auxiliary head of boundary contrast."""

import re

import pytest
import torch

from hyper_mm.registry import MODELS

from ...conftest import REPO

pytestmark = pytest.mark.mmseg


def segmentor():
    pytest.importorskip('mmseg')
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    return MODELS.build(
        dict(
            type='mmseg.EncoderDecoder',
            backbone=dict(
                type='UNet',
                base_channels=4,
                num_stages=2,
                strides=(1, 1),
                enc_num_convs=(1, 1),
                dec_num_convs=(1,),
                downsamples=(True,),
                enc_dilations=(1, 1),
                dec_dilations=(1,),
            ),
            decode_head=dict(
                type='FCNHead', in_channels=4, channels=4, num_classes=3, in_index=-1, num_convs=1
            ),
            auxiliary_head=dict(type='hyper_mm.BoundaryContrastHead', num_classes=3),
            test_cfg=dict(mode='whole'),
        )
    )


def samples(labels):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    return [SegDataSample(gt_sem_seg=PixelData(data=x[None])) for x in labels]


def test_trains_the_backbone_of_a_stock_segmentor():
    model = segmentor()
    labels = torch.zeros(2, 16, 16, dtype=torch.long)
    labels[:, 3:9, 3:9] = 1
    losses = model.loss(torch.randn(2, 3, 16, 16), samples(labels))
    assert losses['aux.boundary_contrast/empty'] == 4  # class 2 is nowhere: 2 images, 2 bands
    losses['aux.loss_boundary'].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.backbone.parameters())
    total, log = model.parse_losses(losses)
    expected = sum(v.mean() for k, v in losses.items() if 'loss' in k)
    torch.testing.assert_close(total, expected)


def test_the_line_of_the_readme():
    """As printed there, in a config that has no such head."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    line = re.search(r'`auxiliary_head=(dict\(.*?\))`', (REPO / 'README.md').read_text())[1]
    cfg = Config.fromfile(REPO / 'configs' / 'metaseg' / 'unet_nuclei.py')
    init_default_scope(cfg.default_scope)
    cfg.model.auxiliary_head = eval(line)  # noqa: S307
    model = MODELS.build(cfg.model)
    labels = torch.zeros(2, 64, 64, dtype=torch.long)
    labels[:, 16:40, 16:40] = 1
    losses = model.loss(torch.randn(2, 3, 64, 64), samples(labels))
    assert losses['aux.loss_boundary'] > 0 and losses['decode.loss_dice'] > 0
    losses['aux.loss_boundary'].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.backbone.parameters())


def test_no_boundary_in_the_batch_gives_a_zero_loss():
    losses = segmentor().loss(torch.randn(2, 3, 16, 16), samples(torch.zeros(2, 16, 16).long()))
    assert losses['aux.loss_boundary'] == 0


def test_ignored_pixels_are_in_no_band():
    head = MODELS.build(dict(type='hyper_mm.BoundaryContrastHead', num_classes=2))
    labels = torch.randint(0, 2, (2, 16, 16))
    labels[..., :8] = 255
    z = torch.randn(2, 4, 16, 16, requires_grad=True)
    head.loss([z], samples(labels))['loss_boundary'].backward()
    assert (z.grad[..., :8] == 0).all() and (z.grad[..., 8:] != 0).any()


def test_nested_structures():
    labels = torch.zeros(2, 16, 16, dtype=torch.long)
    labels[:, 3:12, 3:12] = 1
    labels[:, 6:9, 6:9] = 2
    z = torch.randn(2, 4, 16, 16)
    config = dict(type='hyper_mm.BoundaryContrastHead', num_classes=3)
    nested = MODELS.build(dict(config, structures=[[1, 2]])).loss([z], samples(labels))
    single = MODELS.build(config).loss([z], samples(labels.clamp(max=1)))
    torch.testing.assert_close(nested['loss_boundary'], single['loss_boundary'])
    assert nested['boundary_contrast/empty'] == 0 and single['boundary_contrast/empty'] == 4


def test_bad_input():
    with pytest.raises(ValueError, match='num_classes'):
        MODELS.build(dict(type='hyper_mm.BoundaryContrastHead', num_classes=1))


def loss_of(labels, features, **options):
    head = MODELS.build(dict(type='hyper_mm.BoundaryContrastHead', num_classes=3, **options))
    return head.loss([features], samples(labels))['loss_boundary']


def test_background_is_no_structure():
    labels, features = torch.randint(0, 3, (2, 16, 16)), torch.randn(2, 4, 16, 16)
    for background, structures in ((0, [[1], [2]]), (1, [[0], [2]]), (None, [[0], [1], [2]])):
        found = loss_of(labels, features, background=background)
        torch.testing.assert_close(found, loss_of(labels, features, structures=structures))
    assert not torch.isclose(loss_of(labels, features), loss_of(labels, features, background=1))


def test_ignored_label_is_the_one_that_is_set():
    labels, features = torch.randint(0, 3, (2, 16, 16)), torch.randn(2, 4, 16, 16)
    labels[:, :5] = 255
    other = torch.where(labels == 255, 7, labels)
    found = loss_of(labels, features)
    torch.testing.assert_close(found, loss_of(other, features, ignore_index=7))
    assert not torch.isclose(found, loss_of(other, features))
