"""mmseg's visualizer, for images of any memory layout."""

from __future__ import annotations

import numpy as np
from mmseg.visualization import SegLocalVisualizer as _SegLocalVisualizer

from hyper_mm.registry import VISUALIZERS


@VISUALIZERS.register_module()
class SegLocalVisualizer(_SegLocalVisualizer):
    """mmseg's ``SegLocalVisualizer``, for images of any memory layout.

    mmseg 1.2 draws class names on an array laid out as the image is, and OpenCV refuses one that is
    not contiguous. Its own ``browse_dataset.py`` hands in such images.
    """

    def add_datasample(self, name: str, image: np.ndarray, *args, **kwargs) -> None:
        """Draws a data sample; see mmseg.

        Args:
            name: Name of the image.
            image: Image ``(H, W, 3)``, uint8 RGB.
            *args: As in mmseg.
            **kwargs: As in mmseg.
        """
        super().add_datasample(name, np.ascontiguousarray(image), *args, **kwargs)
