import pytest
import torch
from torch import nn

from hyper_mm.layers.open_vocab.region_pooling import (
    attention_pool,
    box_grids,
    box_means,
    interval_weights,
    mask_means,
)


def interpolated(values, t):
    """Linear interpolation between cell centers, constant beyond the outermost ones."""
    t = (t - 0.5).clamp(0, len(values) - 1)
    low = t.floor().long().clamp(max=max(len(values) - 2, 0))
    high = (low + 1).clamp(max=len(values) - 1)
    return values[low] + (t - low) * (values[high] - values[low])


@pytest.mark.parametrize('low, high', [(0.0, 5.0), (0.3, 0.6), (1.2, 4.9), (4.0, 5.0), (0.0, 0.2)])
def test_weights_integrate_the_interpolated_cells(low, high):
    values = torch.randn(5, dtype=torch.double)
    bounds = torch.tensor([[low], [high]], dtype=torch.double)
    found = interval_weights(bounds[0], bounds[1], 5) @ values
    n = 20000
    t = low + (high - low) * (torch.arange(n, dtype=torch.double) + 0.5) / n
    # the midpoint rule is exact but for the cells with a kink, a share of 6/n
    assert abs(found - interpolated(values, t).mean()) < 1e-6


def test_whole_map_is_its_mean_and_a_cell_is_not_far_from_its_value():
    features = torch.randn(3, 4, 6, dtype=torch.double)
    boxes = torch.tensor([[0, 0, 6, 4], [2.5, 1.5, 2.5, 1.5]], dtype=torch.double)
    whole, point = box_means(features, boxes)
    torch.testing.assert_close(whole, features.mean((1, 2)))
    torch.testing.assert_close(point, features[:, 1, 2], atol=0.02, rtol=0.02)


def test_boxes_without_area_and_outside_of_the_map_are_finite():
    features = torch.randn(3, 4, 6)
    boxes = torch.tensor([[3, 2, 3, 2], [-9, -9, -5, -5], [5, 3, 50, 40], [4, 4, 2, 1.0]])
    for found in (box_means(features, boxes), box_grids(features, boxes, 3)):
        assert found.isfinite().all()
    corner = box_means(features, boxes)[1]
    torch.testing.assert_close(corner, features[:, 0, 0])
    assert box_means(features, boxes[:0]).shape == (0, 3)
    assert box_grids(features, boxes[:0], 2).shape == (0, 3, 2, 2)


def test_grids_are_those_of_roi_align():
    torchvision = pytest.importorskip('torchvision')
    features = torch.randn(3, 8, 9)
    boxes = torch.tensor([[0.5, 1, 6, 7.5], [2, 2, 3, 8]])
    found = box_grids(features, boxes, 4)
    rois = torch.cat([torch.zeros(2, 1), boxes], 1)
    expected = torchvision.ops.roi_align(features[None], rois, 4, 1.0, 2, aligned=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_mask_means():
    features = torch.randn(2, 3, 4, 6)
    logits = torch.full((2, 2, 4, 6), -3.0)
    logits[:, 0, 1:3, 2:5] = 3.0
    logits[0, 1, 2, 2] = -1.0  # nowhere, least unlikely there
    found = mask_means(features, logits)
    torch.testing.assert_close(found[:, 0], features[:, :, 1:3, 2:5].mean((2, 3)))
    weights = logits[:, 1].flatten(1).softmax(-1)
    torch.testing.assert_close(found[:, 1], (features.flatten(2) @ weights[..., None])[..., 0])
    assert mask_means(features, logits.half()).dtype == torch.float32
    with pytest.raises(ValueError, match='logits'):
        mask_means(features, logits[:1])


def test_attention_pool_is_that_of_open_clip():
    open_clip = pytest.importorskip('open_clip')
    torch.manual_seed(0)
    pool = open_clip.modified_resnet.AttentionPool2d(3, 32, 4, 16).double()
    for layer in (pool.q_proj, pool.k_proj, pool.v_proj):
        nn.init.normal_(layer.bias)
    grids = torch.randn(5, 32, 3, 3, dtype=torch.double)
    torch.testing.assert_close(attention_pool(pool, grids), pool(grids))
    with pytest.raises(ValueError, match='9'):
        attention_pool(pool, torch.randn(1, 32, 2, 2).double())


def test_bad_boxes():
    with pytest.raises(ValueError, match='boxes'):
        box_means(torch.randn(3, 4, 4), torch.zeros(2, 5))
    with pytest.raises(ValueError, match='bins'):
        box_grids(torch.randn(3, 4, 4), torch.zeros(2, 4), 0)
