"""Boundary bands in the data pipeline."""

from __future__ import annotations

import torch
from mmcv.transforms import BaseTransform

from hyper_mm.layers.meta.boundary_contrast import boundary_bands, check_width
from hyper_mm.layers.meta.structures import Structures, resolve_structures, structure_masks
from hyper_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class GenerateBoundaryBands(BaseTransform):
    """Adds the boundary and background bands of each structure of ``gt_seg_map``.

    Required keys: ``gt_seg_map`` ``(H, W)``. Added: ``gt_boundary`` and ``gt_background``, uint8
    ``(S, H, W)``. :class:`hyper_mm.BoundaryInfoNCELoss` computes them by itself on the device; use
    this where the bands are wanted in the data.

    Args:
        num_classes: Number of classes.
        erode: Width of the boundary band in pixels.
        dilate: Width of the background band in pixels.
        structures: Classes of each structure, which may be nested; None for each class but
            ``background``.
        background: Class that is no structure, None if all are.
        ignore_index: Label of pixels without a class, which are in no band.

    Raises:
        ValueError: For a width below 1, or structures that are empty or hold unknown classes.
    """

    def __init__(
        self,
        num_classes: int,
        erode: int = 1,
        dilate: int = 5,
        structures: Structures | None = None,
        background: int | None = 0,
        ignore_index: int = 255,
    ):
        check_width('erode', erode)
        check_width('dilate', dilate)
        self.structures = resolve_structures(structures, num_classes, background)
        self.erode, self.dilate, self.ignore_index = erode, dilate, ignore_index

    def transform(self, results: dict) -> dict:
        """Adds the bands; see the class."""
        labels = torch.as_tensor(results['gt_seg_map']).long()
        bands = boundary_bands(structure_masks(labels, self.structures), self.erode, self.dilate)
        for name, band in zip(('gt_boundary', 'gt_background'), bands):
            results[name] = (band & (labels != self.ignore_index)).byte().numpy()
        return results
