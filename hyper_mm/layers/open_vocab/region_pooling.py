"""Features of boxes and masks of a map, and CLIP's attention pooling of one query.

Boxes are measured in cells of the map: ``(x0, y0, x1, y1)``, the first cell covers 0 to 1.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import check_count

SHORTEST = 1e-2
"""Shortest side of a box in cells; smaller ones are widened around their center."""
REGIONS_AT_A_TIME = 64


class AttentionPool(Protocol):
    """What :func:`attention_pool` uses of ``open_clip.modified_resnet.AttentionPool2d``."""

    positional_embedding: Tensor
    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear
    c_proj: nn.Linear
    num_heads: int


def interval_weights(low: Tensor, high: Tensor, size: int) -> Tensor:
    r"""Weights of the cells of an axis in the mean over intervals.

    The cells are interpolated linearly between their centers and integrated exactly,

    .. math:: w_{ni} = \frac{1}{b_n - a_n} \int_{a_n}^{b_n} \max(0, 1 - |t - i - \tfrac12|) \,dt

    with the outermost cells continued as constants: the weights add up to one, and those of the
    whole axis are equal. Intervals are clipped to the map; those shorter than :data:`SHORTEST`,
    also of length zero, are widened to it.

    Args:
        low: Lower ends ``(N,)`` in cells.
        high: Upper ends ``(N,)``.
        size: Number of cells.

    Returns:
        Weights ``(N, size)``.

    Source: the integral is that of Precise RoI Pooling (Jiang et al., ECCV 2018).
    """
    low, high = low.clamp(0, size), high.clamp(0, size)
    center, half = (low + high) / 2, ((high - low) / 2).clamp_min(SHORTEST / 2)
    cells = torch.arange(-1, size + 1, device=low.device, dtype=low.dtype) + 0.5
    above = _hat_integral((center + half)[:, None] - cells)
    weights = above - _hat_integral((center - half)[:, None] - cells)
    weights = weights / weights.sum(1, keepdim=True)
    inside = weights[:, 1:-1].clone()
    inside[:, 0] += weights[:, 0]  # the cells beside the map are copies of its outermost ones
    inside[:, -1] += weights[:, -1]
    return inside


def _hat_integral(t: Tensor) -> Tensor:
    """Integral of the hat function ``max(0, 1 - |t|)`` from minus infinity to ``t``."""
    t = t.clamp(-1, 1)
    return torch.where(t < 0, (1 + t).square() / 2, 1 - (1 - t).square() / 2)


def box_means(features: Tensor, boxes: Tensor) -> Tensor:
    """Mean of a map over each of some boxes, by :func:`interval_weights` along both axes.

    Args:
        features: Map ``(C, H, W)``.
        boxes: ``(N, 4)`` in cells; zero areas and boxes that leave the map are allowed.

    Returns:
        Means ``(N, C)``.

    Raises:
        ValueError: If the boxes are not ``(N, 4)``.
    """
    _check_boxes(boxes)
    (features, boxes), (height, width) = _common(features, boxes), features.shape[-2:]
    rows = interval_weights(boxes[:, 1], boxes[:, 3], height)
    columns = interval_weights(boxes[:, 0], boxes[:, 2], width)
    weights = rows[:, :, None] * columns[:, None]  # (N, H, W)
    return weights.flatten(1) @ features.flatten(1).T


def box_grids(features: Tensor, boxes: Tensor, bins: int, samples: int = 2) -> Tensor:
    """Map of each box, resampled to a square grid (RoIAlign: means of bilinear samples).

    Args:
        features: Map ``(C, H, W)``.
        boxes: ``(N, 4)`` in cells.
        bins: Side of the grid.
        samples: Samples along each side of a bin.

    Returns:
        Grids ``(N, C, bins, bins)``.

    Raises:
        ValueError: If the boxes are not ``(N, 4)`` or a number is not positive.
    """
    _check_boxes(boxes)
    check_count(1, bins=bins, samples=samples)
    (features, boxes), (height, width) = _common(features, boxes), features.shape[-2:]
    if not len(boxes):
        return features.new_zeros(0, len(features), bins, bins)
    steps = bins * samples
    places = (torch.arange(steps, device=boxes.device, dtype=boxes.dtype) + 0.5) / steps
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    points = low + (high - low) * places[None, :, None]  # (N, steps, 2) along x and y
    x, y = (2 * points / boxes.new_tensor([width, height]) - 1).unbind(-1)
    grid = torch.stack(
        [x[:, None].expand(-1, steps, -1), y[:, :, None].expand(-1, -1, steps)], -1
    )  # (N, steps, steps, 2)
    found = F.grid_sample(
        features[None], grid.flatten(0, 1)[None], padding_mode='border', align_corners=False
    )  # (1, C, N steps, steps)
    found = F.avg_pool2d(found, samples)
    return found[0].unflatten(1, (len(boxes), bins)).transpose(0, 1)


def mask_means(features: Tensor, logits: Tensor) -> Tensor:
    """Mean of maps over each of some masks.

    A mask is where its logits, resized to the map, are positive. A mask that is nowhere so takes
    the probabilities of the cells as weights: its feature then is that of its likeliest place.

    Args:
        features: Maps ``(B, C, H, W)``.
        logits: Mask logits ``(B, Q, h, w)``.

    Returns:
        Means ``(B, Q, C)``.

    Raises:
        ValueError: If the batches differ.
    """
    if features.ndim != 4 or logits.ndim != 4 or len(features) != len(logits):
        raise ValueError(
            'features must be (B, C, H, W) and logits (B, Q, h, w), got '
            f'{tuple(features.shape)} and {tuple(logits.shape)}'
        )
    features, logits = _common(features, logits)
    size = features.shape[-2:]
    if logits.shape[-2:] != size:
        logits = F.interpolate(logits, size=size, mode='bilinear', align_corners=False)
    logits = logits.flatten(2)
    inside = (logits > 0).to(logits)
    empty = inside.sum(-1, keepdim=True) == 0
    weights = torch.where(empty, logits.softmax(-1), inside)
    weights = weights / weights.sum(-1, keepdim=True)
    return weights @ features.flatten(2).mT


def attention_pool(pool: AttentionPool, grids: Tensor) -> Tensor:
    r"""CLIP's attention pooling of a ResNet, computed for its one query alone.

    The pool attends from the mean token :math:`x_0` to all tokens :math:`x_j`. Keys and values of
    the tokens are never formed: with :math:`q = W_q x_0 + b_q`, for each head

    .. math:: s_j = (W_k^T q) \cdot x_j + \text{const},\qquad
        o = W_v \Big(\sum_j \operatorname{softmax}(s / \sqrt{d})_j\, x_j\Big) + b_v

    which for grids of 7 x 7 and 2048 channels is about thirty times fewer multiplications.

    Args:
        pool: ``open_clip.modified_resnet.AttentionPool2d``.
        grids: ``(N, C, S, S)`` with the side S of the pool's position embedding.

    Returns:
        Features ``(N, D)``.

    Raises:
        ValueError: If the grids have another side.
    """
    tokens = grids.flatten(2).mT  # (N, S S, C)
    if tokens.shape[1] + 1 != len(pool.positional_embedding):
        raise ValueError(
            f'grids must have {len(pool.positional_embedding) - 1} cells, the number of positions '
            f'of the attention pool, got {tuple(grids.shape)}'
        )
    tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
    tokens = tokens + pool.positional_embedding.to(tokens.dtype)
    heads = pool.num_heads
    query = pool.q_proj(tokens[:, 0]).unflatten(-1, (heads, -1))  # (N, heads, d)
    width = query.shape[-1]
    keys = pool.k_proj.weight.unflatten(0, (heads, width))  # (heads, d, C)
    probes = torch.einsum('nhd,hdc->nhc', query, keys)  # the bias of keys shifts all scores alike
    attention = (probes @ tokens.mT / width**0.5).softmax(-1)
    gathered = attention @ tokens  # (N, heads, C)
    values = pool.v_proj.weight.unflatten(0, (heads, width))
    found = torch.einsum('nhc,hdc->nhd', gathered, values).flatten(1) + pool.v_proj.bias
    return pool.c_proj(found)


def _check_boxes(boxes: Tensor) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f'boxes must be (N, 4), got {tuple(boxes.shape)}')


def _common(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in one dtype of at least float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)
