"""Images of more than 8 bits."""

from __future__ import annotations

from pathlib import Path

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get

from hyper_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImageWindow(LoadImageFromFile):
    """Loads an image of 8 or 16 bits or of floating point, a window of whose values becomes 0..255.

    In place of ``LoadImageFromFile``, which keeps the upper 8 of 16 bits: an image of 12 bits has
    16 levels of gray left there.

    Required keys: ``img_path``. Added: ``img``, float32 ``(H, W, 3)``, gray in all channels or BGR,
    ``img_shape`` and ``ori_shape``.

    Args:
        low: Value that becomes 0, as do smaller ones.
        high: Value that becomes 255, as do larger ones.
        backend_args: Backend of the files.

    Raises:
        ValueError: If ``low`` is not below ``high``; in use, if a file is no image of one or three
            channels.
    """

    def __init__(self, low: float, high: float, backend_args: dict | None = None):
        super().__init__(to_float32=True, color_type='unchanged', backend_args=backend_args)
        if not low < high:
            raise ValueError(f'low must be below high, got {low} and {high}')
        self.low, self.high = low, high

    def transform(self, results: dict) -> dict:
        """Loads; see the class.

        Args:
            results: Of an image.

        Returns:
            The same, with its image.
        """
        image = read_unchanged(results['img_path'], self.backend_args)
        if image.ndim == 2:
            image = np.stack([image] * 3, -1)
        if image.ndim != 3 or image.shape[-1] != 3:
            raise ValueError(
                f'{results["img_path"]} must have one or three channels, got {image.shape}'
            )
        image = (image.astype(np.float32) - self.low) * (255 / (self.high - self.low))
        results['img'] = image.clip(0, 255)
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(low={self.low}, high={self.high})'


def read_unchanged(path: str | Path, backend_args: dict | None = None) -> np.ndarray:
    """Reads an image in the numbers that it holds.

    Raises:
        ValueError: If the file is no image.
    """
    content = get(str(path), backend_args=backend_args)
    image = mmcv.imfrombytes(content, flag='unchanged', backend='cv2') if content else None
    if image is None:
        raise ValueError(f'{path} is no image that OpenCV reads')
    return image


def check_depth(paths: list, backend_args: dict | None = None) -> None:
    """Refuses images that ``LoadImageFromFile`` would cut to 8 bits.

    Args:
        paths: Their paths.
        backend_args: Backend of the files.

    Raises:
        ValueError: It names the first of them, its values, and the remedy.
    """
    for path in paths:
        image = read_unchanged(path, backend_args)
        if image.dtype != np.uint8:
            raise ValueError(
                f'{path} holds {image.dtype} numbers from {image.min()} to {image.max()}, of which '
                "LoadImageFromFile keeps the upper 8 bits: load it by type='hyper_mm."
                "LoadImageWindow' with low=... and high=..., the range of all images"
            )
