"""Radii of embeddings in the predictions of a segmentor."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

pytest.importorskip('mmseg')

from mmengine.config import ConfigDict  # noqa: E402
from mmengine.registry import MODELS  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

pytestmark = pytest.mark.mmseg
CLASSIFIER = dict(type='LorentzMLR', embed_dims=3, max_radius=4.0)


def model(test_cfg=None, kind='EncoderDecoder', **head):
    torch.manual_seed(0)
    head = dict(
        type='hyper_mm.FCNHead', in_channels=8, channels=6, num_convs=0, concat_input=False,
        num_classes=4, in_index=0, align_corners=False, **head,
    )  # fmt: skip
    head['channels'] = head['in_channels']
    config = dict(
        _scope_='mmseg',
        type=f'hyper_mm.{kind}',
        backbone=dict(
            type='ResNet', depth=18, base_channels=8, stem_channels=8, num_stages=1,
            strides=(1,), dilations=(1,), out_indices=(0,), norm_cfg=dict(type='BN'),
        ),
        decode_head=head,
        test_cfg=dict(mode='whole', radius=True) if test_cfg is None else test_cfg,
    )  # fmt: skip
    if kind == 'CascadeEncoderDecoder':
        first = {k: v for k, v in head.items() if k != 'classifier'}
        last = dict(head, type='hyper_mm.OCRHead', ocr_channels=4)
        del last['num_convs'], last['concat_input']
        config.update(num_stages=2, decode_head=[first, last])
    return MODELS.build(ConfigDict(config)).eval()


def test_radius_is_at_the_place_of_the_logits():
    segmentor, x = model(classifier=CLASSIFIER), torch.randn(2, 3, 32, 32)
    meta = dict(img_shape=(32, 32), pad_shape=(32, 32), ori_shape=(20, 28))
    samples = [
        SegDataSample(metainfo=dict(meta, padding_size=(0, 4, 0, 12), flip=flip,
                                    flip_direction='horizontal' if flip else None))
        for flip in (False, True)
    ]  # fmt: skip
    with torch.no_grad():
        found = segmentor.predict(x, samples)
        features = segmentor.extract_feat(x)
        expected = -segmentor.decode_head.uncertainty(features, (32, 32))[:, :20, :28]
    assert_close(found[0].embedding_radius.data[0], expected[0])
    assert_close(found[1].embedding_radius.data[0], expected[1].flip(-1))
    assert found[0].seg_logits.data.shape == (4, 20, 28)
    with torch.no_grad():
        plain = segmentor.predict(x)
    assert plain[0].embedding_radius.data.shape == (1, 32, 32)


def test_cascades_have_the_radius_of_their_last_head():
    segmentor = model(kind='CascadeEncoderDecoder', classifier=CLASSIFIER)
    with torch.no_grad():
        (found,) = segmentor.predict(torch.randn(1, 3, 32, 32))
    radius = found.embedding_radius.data
    assert radius.shape == (1, 32, 32)
    assert (radius >= 0).all()
    assert (radius <= 4.0001).all()


def test_nothing_is_added_unless_asked_for():
    segmentor = model(dict(mode='whole'), classifier=CLASSIFIER)
    with torch.no_grad():
        (found,) = segmentor.predict(torch.randn(1, 3, 32, 32))
    assert 'embedding_radius' not in found


def test_refuses():
    slide = dict(mode='slide', crop_size=(16, 16), stride=(8, 8), radius=True)
    with pytest.raises(ValueError, match=r"radius needs test_cfg.mode='whole', got 'slide'"):
        model(slide, classifier=CLASSIFIER)
    with pytest.raises(ValueError, match='radius needs a decode head of ours'):
        model()
