"""Dense features of convolutional towers, and the classes that can be the best somewhere."""

import pytest
import torch
import torch.nn.functional as F

open_clip = pytest.importorskip('open_clip')
pytest.importorskip('timm')

from open_clip.timm_model import TimmModel  # noqa: E402

from hyper_mm.layers import DenseCNN  # noqa: E402
from hyper_mm.layers.open_vocab.dense_cnn import (  # noqa: E402
    contenders,
    dense_cnn_features,
    guidance_taps,
    is_cnn,
    reductions,
)

TOWERS = {
    'efficientnet': dict(model_name='tf_efficientnet_lite0', proj=''),
    'convnext': dict(model_name='convnext_atto', proj='linear'),
    'convnext mlp': dict(model_name='convnext_atto', proj='mlp', pool=''),
    'resnet': dict(model_name='resnet10t', proj='none'),
}


def build(name, **options):
    torch.manual_seed(0)
    options = {**TOWERS[name], **options}
    width = 512 if options['proj'] == 'none' else 16
    return TimmModel(embed_dim=width, image_size=64, **options).eval()


@pytest.mark.parametrize('name', TOWERS)
@torch.no_grad()
def test_one_position_is_the_image(name):
    visual = build(name)
    images = torch.randn(2, 3, 32, 32)
    dense = DenseCNN(visual)(images)
    assert dense.features.shape[-2:] == (1, 1)
    assert dense.intermediate == ()
    torch.testing.assert_close(dense.features[..., 0, 0], visual(images), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_mean_is_the_image_where_the_head_is_linear():
    visual = build('efficientnet').double()
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    features = dense_cnn_features(visual, images).features
    assert features.shape == (2, 16, 2, 3)
    torch.testing.assert_close(features.mean((2, 3)), visual(images))


@pytest.mark.parametrize('name', ['efficientnet', 'convnext'])
@torch.no_grad()
def test_maps_come_in_the_order_of_the_taps(name):
    visual = build(name)
    taps = guidance_taps(visual)
    assert [reductions(visual)[tap] for tap in taps] == [16, 8]
    early, late = dense_cnn_features(visual, torch.randn(1, 3, 64, 96), taps).intermediate
    assert early.shape[-2:] == (4, 6) and late.shape[-2:] == (8, 12)


def test_other_towers():
    small = dict(image_size=32, layers=2, width=16, head_width=8, patch_size=8)
    text = dict(context_length=8, vocab_size=16, width=16, heads=2, layers=1)
    vit = open_clip.CLIP(embed_dim=8, vision_cfg=small, text_cfg=text).visual
    attention = build('resnet', proj='', pool='rot_attn')
    for visual in (vit, attention, TimmModel('vit_tiny_patch16_224', 8, pool='token', proj='')):
        assert not is_cnn(visual)
        with pytest.raises(TypeError, match=f'average pooling, got {type(visual).__name__}'):
            DenseCNN(visual)
    with pytest.raises(ValueError, match=r'taps must lie in 0..4, got \[5, -1\]'):
        dense_cnn_features(build('efficientnet'), torch.zeros(1, 3, 32, 32), (0, 5, -1))


@pytest.mark.parametrize('classes', [1, 2, 300])
@pytest.mark.parametrize('size', [(40, 30), (5, 7), (3, 2), (160, 11)])
def test_the_best_classes_are_contenders(classes, size):
    torch.manual_seed(classes)
    scores = torch.randn(classes, 5, 7).softmax(0)
    every = F.interpolate(scores[None], size, mode='bilinear')[0].argmax(0)
    kept = contenders(scores)
    assert torch.equal(kept, kept.sort().values)
    some = F.interpolate(scores[kept][None], size, mode='bilinear')[0].argmax(0)
    assert torch.equal(kept[some], every)


def test_most_classes_are_none():
    scores = torch.rand(1000, 5, 7)
    scores[3] += 2
    scores[7, :, :2] += 3
    assert contenders(scores).tolist() == [3, 7]
