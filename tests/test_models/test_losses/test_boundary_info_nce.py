"""The registered boundary loss."""

import pytest
import torch
from mmengine.logging import MessageHub

from hyper_mm.layers import Bands, BoundaryInfoNCE, boundary_bands
from hyper_mm.registry import MODELS


def build(**options):
    return MODELS.build(dict(type='hyper_mm.BoundaryInfoNCELoss', **options))


def test_is_the_weighted_contrast_of_the_bands():
    z, masks = torch.randn(3, 4, 16, 16), torch.rand(3, 2, 16, 16) > 0.5
    found = build(erode=2, dilate=3, loss_weight=0.5, denominator='neg')(z, masks)
    expected = BoundaryInfoNCE(denominator='neg')(z, boundary_bands(masks, 2, 3))
    torch.testing.assert_close(found.loss, 0.5 * expected.loss)
    torch.testing.assert_close(found.per_structure.sum(), found.loss)


def test_a_list_of_masks_is_one_for_each_map():
    maps = [torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 12)]
    masks = [torch.rand(2, 1, *z.shape[-2:]) > 0.5 for z in maps]
    valid = [torch.rand(2, 1, *z.shape[-2:]) > 0.2 for z in maps]
    bands = [Bands(*(band & v for band in boundary_bands(m, 1, 5))) for m, v in zip(masks, valid)]
    expected = BoundaryInfoNCE()(maps, bands).loss
    torch.testing.assert_close(build(loss_weight=1.0)(maps, masks, valid).loss, expected)
    assert build()(maps, masks).loss.isfinite()


def test_pixels_without_label_are_in_no_band():
    z, masks = torch.randn(2, 4, 16, 16, requires_grad=True), torch.rand(2, 1, 16, 16) > 0.5
    valid = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    valid[..., :8] = False
    build()(z, masks, valid).loss.backward()
    assert (z.grad[..., :8] == 0).all() and (z.grad[..., 8:] != 0).any()


def test_warmup_counts_the_iterations_of_a_training():
    loss, hub = build(loss_weight=0.4, warmup=4), MessageHub.get_current_instance()
    before = hub.get_info('loop_stage'), hub.get_info('iter')
    z, masks = torch.randn(1, 4, 16, 16), torch.rand(1, 1, 16, 16) > 0.5
    full = loss(z, masks).loss
    try:
        for iteration, share in ((0, 0.0), (1, 0.25), (4, 1.0), (9, 1.0)):
            hub.update_info('loop_stage', 'train')
            hub.update_info('iter', iteration)
            torch.testing.assert_close(loss(z, masks).loss, share * full)
            hub.update_info('loop_stage', 'test')
            torch.testing.assert_close(loss(z, masks).loss, full)
    finally:
        for name, value in zip(('loop_stage', 'iter'), before):
            hub.update_info(name, value)
    with pytest.raises(ValueError, match='warmup'):
        build(warmup=-1)


@pytest.mark.parametrize('option', [dict(loss_weight=-1), dict(erode=0), dict(dilate=-2)])
def test_bad_options(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        build(**option)


@pytest.mark.parametrize(
    'option', [dict(temperature=0.5), dict(pairs='unordered'), dict(resolution='full')]
)
def test_options_reach_the_contrast(option):
    z, masks = torch.randn(3, 4, 8, 8), torch.rand(3, 2, 16, 16) > 0.5
    found = build(loss_weight=1.0, **option)(z, masks).loss
    bands = boundary_bands(masks, 1, 5)
    torch.testing.assert_close(found, BoundaryInfoNCE(**option)(z, bands).loss)
    assert not torch.isclose(found, BoundaryInfoNCE()(z, bands).loss)
