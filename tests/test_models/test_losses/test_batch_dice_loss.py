"""Dice over a batch."""

import warnings

import pytest
import torch

from hyper_mm.layers import BatchDice
from hyper_mm.registry import MODELS
from tests.conftest import golden_files
from tests.helpers.golden import Golden, absolute


def build(**kwargs):
    return MODELS.build(dict(type='hyper_mm.BatchDiceLoss', **kwargs))


@pytest.mark.parametrize('file', golden_files('feddg*.npz'))
def test_golden_dice_of_logits(file):
    g = Golden(file, torch.float64)
    found = build(activation='sigmoid')(g['dice_p'].logit(), g['dice_y'])
    assert absolute(found, g.exact('dice')) < 1e-9


def test_labels_equal_masks_and_ignored_pixels_do_not_count():
    logits, labels = torch.randn(2, 3, 5, 6), torch.randint(0, 3, (2, 5, 6))
    masks = torch.stack([labels == k for k in range(3)], 1).long()
    torch.testing.assert_close(build()(logits, labels), build()(logits, masks))
    ignored = labels.clone()
    ignored[..., 3:] = 255
    expected = build()(logits[..., :3], labels[..., :3])
    torch.testing.assert_close(build()(logits, ignored), expected)
    foreground = BatchDice()(logits.softmax(1)[:, 1:], masks[:, 1:])
    torch.testing.assert_close(build(background=0)(logits, labels), foreground)


def test_nested_structures():
    logits, labels = torch.randn(2, 3, 5, 6), torch.randint(0, 3, (2, 5, 6))
    p = logits.softmax(1)
    p = torch.stack([p[:, 1] + p[:, 2], p[:, 2]], 1)
    expected = BatchDice()(p, torch.stack([labels > 0, labels == 2], 1))
    loss = build(structures=[[1, 2], [2]])
    torch.testing.assert_close(loss(logits, labels), expected)
    masks = torch.stack([labels == k for k in range(3)], 1).long()
    torch.testing.assert_close(loss(logits, masks), expected)
    with pytest.raises(ValueError, match='structures'):
        build(structures=[[3]])(logits, labels)
    with pytest.raises(ValueError, match='structures'):
        build(structures=[[0]], activation='sigmoid')


def test_one_channel_and_half_precision():
    logits, labels = torch.randn(2, 1, 5, 6), torch.randint(0, 2, (2, 5, 6))
    loss = build(activation='sigmoid', loss_weight=0.5)
    expected = 0.5 * BatchDice()(logits.sigmoid(), labels[:, None])
    torch.testing.assert_close(loss(logits, labels), expected)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert loss(logits.bfloat16(), labels).dtype == torch.float32


def test_name_in_the_log():
    assert build().loss_name == 'loss_dice'
    assert build(loss_name='loss_batch_dice').loss_name == 'loss_batch_dice'


def test_bad_input():
    with pytest.raises(ValueError, match='activation'):
        build(activation='relu')
    with pytest.raises(ValueError, match='loss_weight'):
        build(loss_weight=-1)
    with pytest.raises(ValueError, match='eps'):
        build(eps=0)
    with pytest.raises(ValueError, match='sigmoid'):
        build()(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match='weight'):
        build()(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2), torch.ones(1))


@pytest.mark.parametrize(
    'channels, activation, value',
    [
        (2, 'softmax', 2),
        (2, 'softmax', 128),
        (3, 'softmax', -1),
        (1, 'sigmoid', 2),
        (1, 'sigmoid', 254),
    ],
)
def test_labels_that_are_no_class(channels, activation, value):
    logits, labels = torch.randn(2, channels, 5, 6), torch.zeros(2, 5, 6, dtype=torch.long)
    labels[:, 2] = value
    loss = build(activation=activation)
    with pytest.raises(ValueError, match=rf'labels must be 0\.\..* got \[{value}\]'):
        loss(logits, labels)
    assert loss(logits, labels, ignore_index=value).isfinite()


def test_masks_of_channels_are_0_and_1():
    logits, masks = torch.randn(2, 2, 5, 6), torch.zeros(2, 2, 5, 6, dtype=torch.long)
    masks[:, :, 2] = 128
    with pytest.raises(ValueError, match=r'labels must be 0\.\.1 or ignore_index=255, got \[128\]'):
        build(activation='sigmoid')(logits, masks)


def test_masks_of_0_and_255_hold_no_class():
    logits, labels = torch.randn(2, 2, 5, 6), torch.zeros(2, 5, 6, dtype=torch.long)
    labels[:, 2:4] = 255
    loss = build(background=0)
    with pytest.warns(UserWarning, match='in masks of 0 and 255 nothing is labeled'):
        for _ in range(12):
            loss(logits, labels)
    # crops of background alone are common: one batch with a class settles it
    loss = build(background=0)
    loss(logits, labels)
    loss(logits, torch.where(labels == 255, 1, 0))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for _ in range(20):
            loss(logits, labels)
