"""Boundary contrast as a loss for configs."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.logging import MessageHub
from torch import Tensor, nn

from hyper_mm.checks import check_at_least, check_count
from hyper_mm.layers.meta.boundary_contrast import (
    Bands,
    BoundaryContrast,
    BoundaryInfoNCE,
    boundary_bands,
    check_width,
)
from hyper_mm.registry import MODELS


@MODELS.register_module()
class BoundaryInfoNCELoss(nn.Module):
    """InfoNCE of the features inside against those outside of the boundaries of masks.

    See :class:`hyper_mm.layers.BoundaryInfoNCE`. The loss is summed over the structures.

    Args:
        temperature: tau.
        denominator: ``'pos_neg'`` or ``'neg'``.
        pairs: ``'ordered'`` or ``'unordered'``.
        resolution: ``'feature'`` or ``'full'``.
        erode: Width of the boundary band in mask pixels.
        dilate: Width of the background band in mask pixels.
        loss_weight: Factor of the loss, at least 0.
        warmup: Iterations of a training over which the factor rises from 0 to ``loss_weight``: at
            first its gradient is several times that of Dice. Outside of a runner it is full.

    Raises:
        ValueError: For a negative weight, a band below one pixel, or an unknown option.
    """

    def __init__(
        self,
        temperature: float = 0.05,
        denominator: str = 'pos_neg',
        pairs: str = 'ordered',
        resolution: str = 'feature',
        erode: int = 1,
        dilate: int = 5,
        loss_weight: float = 0.1,
        warmup: int = 0,
    ):
        super().__init__()
        check_at_least(0, loss_weight=loss_weight)
        check_count(0, warmup=warmup)
        check_width('erode', erode)
        check_width('dilate', dilate)
        self.contrast = BoundaryInfoNCE(temperature, denominator, pairs, resolution)
        self.erode, self.dilate = erode, dilate
        self.loss_weight, self.warmup = loss_weight, warmup

    @property
    def current_weight(self) -> float:
        """Factor of the loss in this iteration."""
        hub = MessageHub.get_current_instance()
        if not self.warmup or hub.get_info('loop_stage') != 'train':
            return self.loss_weight
        return self.loss_weight * min(1.0, hub.get_info('iter', 0) / self.warmup)

    def bands(self, masks: Tensor, valid: Tensor | None = None) -> Bands:
        """Bands without the pixels that have no label.

        Args:
            masks: 0/1 masks ``(B, S, H, W)``.
            valid: Pixels with a label ``(B, 1, H, W)``; all if None.
        """
        bands = boundary_bands(masks, self.erode, self.dilate)
        if valid is None:
            return bands
        return Bands(*(band * valid.to(band.dtype) for band in bands))

    def forward(
        self,
        features: Tensor | Sequence[Tensor],
        masks: Tensor | Sequence[Tensor],
        valid: Tensor | Sequence[Tensor] | None = None,
    ) -> BoundaryContrast:
        """Computes the weighted loss.

        Args:
            features: Feature maps ``(B, C, h, w)``, one or several.
            masks: 0/1 masks ``(B, S, H, W)`` of S structures, which serve all maps; or a list, one
                for each map.
            valid: Pixels with a label ``(B, 1, H, W)``, a list where the masks are; all if None.
                The others are in no band.

        Returns:
            The loss, times :attr:`current_weight`, and what it consists of.
        """
        if isinstance(masks, Tensor):
            bands = self.bands(masks, valid)
        else:
            bands = [*map(self.bands, masks, [None] * len(masks) if valid is None else valid)]
        found = self.contrast(features, bands)
        weight = self.current_weight
        return found._replace(loss=weight * found.loss, per_structure=weight * found.per_structure)
