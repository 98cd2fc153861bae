import pytest
import torch
import torch.nn.functional as F

from hyper_mm.layers.open_vocab.dense_clip import DenseFeatures
from hyper_mm.registry import MODELS
from tests.helpers.open_vocab import AGGREGATOR


def build(in_channels=24, guidance_channels=(16, 8), **options):
    return MODELS.build(
        dict(
            type='hyper_mm.CostAggregationHead',
            in_channels=in_channels,
            guidance_channels=guidance_channels,
            aggregator=dict(AGGREGATOR),
            **options,
        )
    )


def plain_loss(logits, labels, ignore):
    logits = F.interpolate(logits, size=labels.shape[-2:], mode='bilinear')
    target = F.one_hot(labels.where(labels != 255, logits.shape[1]), logits.shape[1] + 1)
    target = target[..., :-1].movedim(-1, 1).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction='none')
    return loss.mean() if ignore == 'zero' else loss.movedim(1, -1)[labels != 255].mean()


@pytest.mark.parametrize('ignore', ['zero', 'mask'])
@pytest.mark.parametrize('classes', [3, 64, 130])
def test_loss_and_gradient(classes, ignore):
    head = build(ignore=ignore)
    labels = torch.randint(classes, (2, 9, 12))
    labels[:, 3:5] = 255
    found, expected = (torch.randn(2, classes, 4, 4).requires_grad_() for _ in range(2))
    expected.data.copy_(found.data)
    loss = head.loss(found, labels)['loss_ce']
    reference = plain_loss(expected, labels, ignore)
    torch.testing.assert_close(loss, reference)
    loss.backward()
    reference.backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-9)


def test_loss_keeps_no_map_of_all_classes():
    head, saved = build(), []
    logits = torch.randn(1, 192, 4, 4, requires_grad=True)
    labels = torch.zeros(1, 64, 64, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: saved.append(x.numel()) or x, lambda x: x
    ):
        head.loss(logits, labels)
    assert max(saved) <= 64 * 64  # a map of one class, not of 192


def test_large_logits_are_finite():
    logits = torch.tensor([-1e4, 1e4]).reshape(1, 2, 1, 1).requires_grad_()
    loss = build().loss(logits, torch.zeros(1, 1, 1))['loss_ce']
    loss.backward()
    assert loss == 1e4
    assert logits.grad.isfinite().all()


def test_loss_weight():
    logits, labels = torch.randn(1, 3, 4, 4), torch.zeros(1, 4, 4)
    one, two = (build(loss_weight=w).loss(logits, labels)['loss_ce'] for w in (1.0, 2.0))
    torch.testing.assert_close(2 * one, two)


def test_upsampling_has_the_parameters_of_the_official_code():
    head = build(768, (256, 128))
    parts = (head.upsample1, head.upsample2)
    assert sum(p.numel() for part in parts for p in part.parameters()) == 2_359_680


def test_residual_adds_the_logits_of_the_plain_head():
    torch.manual_seed(0)
    head = build(residual=30.0).eval()
    dense = DenseFeatures(torch.randn(1, 16, 4, 4), (torch.randn(1, 24, 4, 4),) * 2)
    text = torch.randn(5, 1, 16)
    plain = MODELS.build(dict(type='hyper_mm.TextSimilarityHead', scale=30.0))(dense, text)
    plain = F.interpolate(plain, size=(16, 16), mode='bilinear')
    torch.testing.assert_close(head(dense, text), plain)  # training begins there
    torch.nn.init.normal_(head.aggregator.decoder.head.weight)
    found = head(dense, text)
    head.residual = None
    torch.testing.assert_close(found, head(dense, text) + plain)
    assert (found - plain).abs().max() > 1e-3
    with pytest.raises(ValueError, match='residual must be in'):
        build(residual=0)


def test_cross_entropy_over_classes():
    torch.manual_seed(0)
    head = build(criterion='ce', loss_weight=3.0)
    logits = torch.randn(2, 5, 4, 4, requires_grad=True)
    labels = torch.randint(5, (2, 8, 8))
    labels[0, :3] = 255
    found = head.loss(logits, labels)['loss_ce']
    large = F.interpolate(logits, size=(8, 8), mode='bilinear')
    expected = 3 * F.cross_entropy(large, labels, ignore_index=255)
    torch.testing.assert_close(found, expected)
    (grad,) = torch.autograd.grad(found, logits, retain_graph=True)
    (wanted,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(grad, wanted)
    nothing = head.loss(logits, torch.full((2, 8, 8), 255))['loss_ce']
    assert nothing == 0 and nothing.requires_grad
    with pytest.raises(ValueError, match='criterion'):
        build(criterion='mse')
    with pytest.raises(ValueError, match='labels must be 0..4'):
        head.loss(logits, torch.full((2, 8, 8), 5))
