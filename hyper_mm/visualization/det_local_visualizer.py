"""mmdet's visualizer, for images in which no segment was found."""

from __future__ import annotations

import numpy as np
from mmdet.visualization import DetLocalVisualizer as _DetLocalVisualizer
from mmengine.structures import PixelData

from hyper_mm.registry import VISUALIZERS


@VISUALIZERS.register_module()
class DetLocalVisualizer(_DetLocalVisualizer):
    """mmdet's ``DetLocalVisualizer``, which also draws panoptic segmentations without a segment.

    mmdet 3.3 raises ValueError for them, so that a run whose model finds nothing yet would end at
    its first picture.
    """

    def _draw_panoptic_seg(
        self, image: np.ndarray, panoptic_seg: PixelData, classes: list[str] | None, *args
    ) -> np.ndarray:
        """Draws the segments; without one, the image as it is.

        Args:
            image: ``(H, W, 3)``, uint8 RGB.
            panoptic_seg: With ``sem_seg`` ``(1, H, W)``.
            classes: Names; their number is the label of pixels of no class, where the segmentation
                does not say otherwise.
            *args: As in mmdet.
        """
        nothing = panoptic_seg.metainfo.get('ignore_index', len(classes or ()))
        if (np.asarray(panoptic_seg.sem_seg) == nothing).all():
            return image
        return super()._draw_panoptic_seg(image, panoptic_seg, classes, *args)
