"""A small few-shot segmentor and an episode for it."""

import pytest
import torch
from mmengine.config import ConfigDict

from hyper_mm.registry import MODELS
from tests.test_models.test_heads.test_boundary_contrast_head import samples

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
