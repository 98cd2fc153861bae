"""Overlapping windows of an image plus the whole of it, and the way back (CAT-Seg's inference)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corners not aligned; the same tensor where it has the size already.

    Args:
        x: ``(B, C, H, W)``.
        size: Height and width.

    Returns:
        ``(B, C, *size)``.
    """
    if x.shape[-2:] == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode='bilinear', align_corners=False)


class GlobalWindows:
    """Windows of a square image and, last, the whole image at the size of a window.

    The image is squashed to a square, whatever its aspect. The scores of an image are the mean of
    two maps: the windows', averaged where they overlap, and the whole's, scaled up.

    Args:
        size: Side of the square in pixels.
        window: Side of a window in pixels.
        stride: Distance of the windows in pixels.

    Raises:
        ValueError: If the windows do not cover the square exactly.
    """

    def __init__(self, size: int = 640, window: int = 384, stride: int = 256) -> None:
        if not 0 < stride <= window <= size or (size - window) % stride:
            raise ValueError(
                'windows must cover the square: 0 < stride <= window <= size and size - window a '
                f'multiple of stride, got size={size}, window={window}, stride={stride}'
            )
        self.size, self.window = size, window
        starts = range(0, size - window + 1, stride)
        self.corners = [(top, left) for top in starts for left in starts]

    def split(self, image: Tensor) -> Tensor:
        """Cuts one image.

        Args:
            image: ``(C, H, W)`` of any size.

        Returns:
            ``(windows + 1, C, window, window)``, row by row, the whole image last.
        """
        square = resize(image[None], (self.size, self.size))
        side = self.window
        parts = [square[..., t : t + side, u : u + side] for t, u in self.corners]
        return torch.cat([*parts, resize(square, (side, side))])

    def merge(self, scores: Tensor) -> Tensor:
        """Puts the scores of the parts together.

        Args:
            scores: ``(windows + 1, T, window, window)``, as :meth:`split` has cut.

        Returns:
            ``(1, T, size, size)``.
        """
        side = self.window
        total = scores.new_zeros(1, scores.shape[1], self.size, self.size)
        count = scores.new_zeros(1, 1, self.size, self.size)
        for part, (top, left) in zip(scores, self.corners):
            place = (..., slice(top, top + side), slice(left, left + side))
            total[place] += part
            count[place] += 1
        return (total / count + resize(scores[-1:], (self.size, self.size))) / 2
