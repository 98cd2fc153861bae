r"""Contrast of the features on both sides of the boundary of a structure.

Source: Liu et al., FedDG: Federated Domain Generalization on Medical Image Segmentation via
Episodic Learning in Continuous Frequency Space, CVPR 2021, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...checks import check_choice, check_positive
from ...ops.stable import unit

DENOMINATORS = ('pos_neg', 'neg')
PAIRS = ('ordered', 'unordered')
RESOLUTIONS = ('feature', 'full')


class Bands(NamedTuple):
    """The two sides of a boundary, each 0/1 and of the shape of the masks."""

    boundary: Tensor
    background: Tensor


class BoundaryContrast(NamedTuple):
    """Result of :class:`BoundaryInfoNCE`."""

    loss: Tensor
    """Sum over the structures, 0-dimensional."""
    per_structure: Tensor
    """Loss of each structure ``(S,)``; 0 for one without a positive pair or without a negative."""
    empty: Tensor
    """How many embeddings were left out because their region is empty, 0-dimensional."""


def boundary_bands(masks: Tensor, erode: int = 1, dilate: int = 5) -> Bands:
    r"""Boundary and background bands of masks, on their device.

    .. math:: \text{boundary} = m - \operatorname{erode}(m), \qquad
        \text{background} = \operatorname{dilate}(m) - m

    with the 3x3 cross, so that the bands are balls of the L1 distance. Outside the image counts as
    0 in both: a mask that touches the border has boundary there, and a full one no background.

    Args:
        masks: 0/1 masks ``(..., H, W)`` of any dtype.
        erode: Width of the boundary band in pixels, at least 1; it may exceed the image.
        dilate: Width of the background band in pixels, at least 1; likewise.

    Returns:
        The bands, of the dtype of the masks.

    Raises:
        ValueError: If a width is below 1 or the masks have fewer than two dimensions.
    """
    check_width('erode', erode)
    check_width('dilate', dilate)
    if masks.ndim < 2:
        raise ValueError(f'masks must have shape (..., H, W), got {tuple(masks.shape)}')
    packed = _pack(masks.bool().reshape(-1, *masks.shape[-2:]))
    boundary = packed & _dilate_cross(~packed, erode, outside=255)
    background = _dilate_cross(packed, dilate, outside=0) & ~packed
    return Bands(*(_unpack(x, masks) for x in (boundary, background)))


def check_width(name: str, value: int) -> None:
    """Refuses a width of a band that is no integer of at least 1, by the name of its argument."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f'{name} must be an integer of at least 1, got {value!r}')


def _pack(masks: Tensor) -> Tensor:
    """Bool masks ``(N, H, W)`` as bits of ``(ceil(N / 8), H, W)``, to work on eight at once."""
    masks = masks.view(torch.uint8)
    packed = masks[::8].clone()
    for k in range(1, min(8, len(masks))):
        part = masks[k::8]
        packed[: len(part)] |= part << k
    return packed


def _unpack(packed: Tensor, like: Tensor) -> Tensor:
    """Inverse of :func:`_pack`, in the shape and dtype of ``like``."""
    masks = packed.new_empty((like.shape[:-2].numel(), *packed.shape[1:]))
    for k in range(min(8, len(masks))):
        part = masks[k::8]
        part.copy_((packed[: len(part)] >> k) & 1)
    return masks.view(torch.bool).reshape(like.shape).to(like.dtype)


def _dilate_cross(m: Tensor, steps: int, outside: int) -> Tensor:
    """Dilation of each bit of ``(..., H, W)`` by the 3x3 cross; ends once nothing can grow.

    Args:
        m: Packed masks, uint8.
        steps: Number of times.
        outside: Value of the pixels around the image, 0 or 255.
    """
    for _ in range(min(steps, m.shape[-2] + m.shape[-1])):
        grown = m.clone()
        grown[..., 1:, :] |= m[..., :-1, :]
        grown[..., :-1, :] |= m[..., 1:, :]
        grown[..., 1:] |= m[..., :-1]
        grown[..., :-1] |= m[..., 1:]
        for edge in (grown[..., 0, :], grown[..., -1, :], grown[..., 0], grown[..., -1]):
            edge |= outside
        m = grown
    return m


def region_embeddings(
    features: Tensor, regions: Tensor, resolution: str = 'feature'
) -> tuple[Tensor, Tensor]:
    r"""Mean feature of each region, :math:`h = \sum_i m_i z_i / \sum_i m_i`.

    Args:
        features: Feature maps ``(B, C, h, w)``.
        regions: Masks ``(B, S, H, W)``.
        resolution: ``'feature'``: masks are averaged down to the feature size, so that each feature
            counts by the share of its cell; ``'full'``: features are interpolated up to the masks
            (bilinear, half-pixel centers). The same where the sizes are equal.

    Returns:
        Embeddings ``(B, S, C)`` in float32 or better, 0 for empty regions, and which regions are
        not empty ``(B, S)``.

    Raises:
        ValueError: If the shapes do not fit or ``resolution`` is unknown.
    """
    check_choice(RESOLUTIONS, resolution=resolution)
    if features.ndim != 4 or regions.ndim != 4 or len(features) != len(regions):
        raise ValueError(
            'features (B, C, h, w) and regions (B, S, H, W) must have the same batch size, got '
            f'{tuple(features.shape)} and {tuple(regions.shape)}'
        )
    with torch.autocast(features.device.type, enabled=False):
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        weight = regions.to(features.dtype)
        if features.shape[-2:] != weight.shape[-2:]:
            if resolution == 'full':
                features = F.interpolate(features, weight.shape[-2:], mode='bilinear')
            else:
                weight = F.adaptive_avg_pool2d(weight, (features.shape[-2], features.shape[-1]))
        total = weight.sum((-2, -1))
        found = total > 0
        sums = torch.einsum('bchw,bshw->bsc', features, weight)
        return sums / torch.where(found, total, 1).unsqueeze(-1), found


def boundary_info_nce(
    embeddings: Tensor,
    labels: Tensor,
    valid: Tensor | None = None,
    temperature: float = 0.05,
    denominator: str = 'pos_neg',
    pairs: str = 'ordered',
) -> Tensor:
    r"""InfoNCE of boundary against background embeddings.

    .. math:: \ell(m, p) = -\log \frac{e^{s_{mp}}}{D_m}, \qquad
        s_{mp} = \cos(h_m, h_p) / \tau, \qquad
        D_m = [e^{s_{mp}} +] \sum_{q:\, y_q \ne y_m} e^{s_{mq}}

    averaged over the positive pairs, those of equal label. The paper calls the indicator F, once 1
    and once 0 for positives; only the reading in which boundary attracts boundary is sensible.

    Args:
        embeddings: Vectors ``(..., N, C)`` of any length; a zero vector has cosine 0 with all.
        labels: 1 boundary, 0 background ``(N,)``.
        valid: Rows that count ``(..., N)``; all if None.
        temperature: tau.
        denominator: ``'pos_neg'`` (official code; never negative) or ``'neg'`` (paper).
        pairs: ``'ordered'``: both orders (official code); ``'unordered'``: m < p only (paper), of
            which the value depends on the order of the rows, since l is not symmetric.

    Returns:
        Losses ``(...)``; 0, with gradient 0, where there is no positive pair or no negative.

    Raises:
        ValueError: If a choice is unknown, or ``temperature`` is not positive.
    """
    _check_options(temperature, denominator, pairs)
    with torch.autocast(embeddings.device.type, enabled=False):
        h = unit(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)))
        scores = h @ h.mT / temperature
        if valid is None:
            valid = torch.ones_like(embeddings[..., 0], dtype=torch.bool)
        both = valid.unsqueeze(-1) & valid.unsqueeze(-2)
        same = labels.unsqueeze(-1) == labels.unsqueeze(-2)
        negative = both & ~same
        positive = both & same & ~torch.eye(len(labels), dtype=torch.bool, device=h.device)
        positive = positive & negative.any(-1, keepdim=True)
        if pairs == 'unordered':
            positive = positive.triu(1)
        low = torch.finfo(scores.dtype).min / 4
        against = torch.where(negative, scores, low).logsumexp(-1, keepdim=True)
        losses = against - scores
        if denominator == 'pos_neg':
            losses = F.softplus(losses)
        total = torch.where(positive, losses, 0).sum((-2, -1))
        return total / positive.sum((-2, -1)).clamp(min=1)


def _check_options(temperature: float, denominator: str, pairs: str) -> None:
    check_positive(temperature=temperature)
    check_choice(DENOMINATORS, denominator=denominator)
    check_choice(PAIRS, pairs=pairs)


class BoundaryInfoNCE(nn.Module):
    """Boundary contrast of one or more feature maps of a batch, structure by structure.

    Each region of each map has one embedding. Empty regions are left out and counted; the
    official code returns NaN there.

    Args:
        temperature: See :func:`boundary_info_nce`.
        denominator: The same.
        pairs: The same.
        resolution: See :func:`region_embeddings`.

    Raises:
        ValueError: If a choice is unknown, or ``temperature`` is not positive.
    """

    def __init__(
        self,
        temperature: float = 0.05,
        denominator: str = 'pos_neg',
        pairs: str = 'ordered',
        resolution: str = 'feature',
    ):
        super().__init__()
        _check_options(temperature, denominator, pairs)
        check_choice(RESOLUTIONS, resolution=resolution)
        self.options: dict[str, Any] = dict(
            temperature=temperature, denominator=denominator, pairs=pairs
        )
        self.resolution = resolution

    def forward(
        self, features: Tensor | Sequence[Tensor], bands: Bands | Sequence[Bands]
    ) -> BoundaryContrast:
        """Computes the loss.

        Args:
            features: Feature maps ``(B, C, h, w)``: one, or several (before and after the inner
                step of an episode), whose embeddings are then contrasted together.
            bands: Bands ``(B, S, H, W)`` of S structures, which serve all maps; or a list of bands,
                one for each map, where these are of other images.

        Returns:
            The loss and what it consists of.

        Raises:
            ValueError: If there is no map, or a number of bands other than that of the maps.
        """
        maps = [features] if isinstance(features, Tensor) else list(features)
        if not maps:
            raise ValueError('features must hold at least one feature map, got none')
        each = [bands] * len(maps) if isinstance(bands[0], Tensor) else list(bands)
        if len(each) != len(maps):
            raise ValueError(f'bands must be one for each of {len(maps)} maps, got {len(each)}')
        found = [
            region_embeddings(z, band, self.resolution)
            for side in zip(*each)
            for z, band in zip(maps, side)
        ]
        embeddings = torch.cat([e for e, _ in found]).transpose(0, 1)
        valid = torch.cat([v for _, v in found]).transpose(0, 1)
        half = embeddings.shape[1] // 2
        labels = torch.arange(2 * half, device=valid.device) < half
        losses = boundary_info_nce(embeddings, labels.long(), valid, **self.options)
        return BoundaryContrast(losses.sum(), losses, (~valid).sum())

    def extra_repr(self) -> str:
        """The options."""
        return ', '.join(
            f'{k}={v!r}' for k, v in (*self.options.items(), ('resolution', self.resolution))
        )
