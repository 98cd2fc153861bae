"""Appearance of an image that another device would give it: polarity, colors, contrast, noise.

An image is a tensor ``(C, H, W)`` with values of 0 to 1; shapes and places of things stay.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ['Style', 'apply_style', 'blur', 'mix_stains']


class Style(NamedTuple):
    """One appearance; the default leaves an image as it is."""

    invert: bool = False
    """Dark becomes bright: fluorescence against transmitted light."""
    channels: tuple[int, ...] | None = None
    """Order of the channels, None for their own."""
    gamma: float = 1.0
    """Exponent of the values."""
    low: float = 0.0
    """What 0 becomes."""
    high: float = 1.0
    """What 1 becomes."""
    stains: tuple[tuple[float, ...], ...] | None = None
    """Matrix of the optical densities, None for none; see :func:`mix_stains`."""
    blur: float = 0.0
    """Standard deviation of a Gaussian in pixels."""
    noise: float = 0.0
    """Standard deviation of white noise."""


def mix_stains(x: Tensor, matrix: Tensor) -> Tensor:
    r"""Mixes the optical densities of the channels, as other stains or filters would.

    .. math:: x'_c = \exp\Bigl(\sum_d M_{cd} \log x_d\Bigr)

    (Lambert-Beer: densities :math:`-\log x` of stains add.) Values below 1/255 count as 1/255.

    Args:
        x: Images ``(..., C, H, W)`` of 0 to 1.
        matrix: M ``(C, C)``, not negative; rows that sum to 1 keep a gray image as it is.

    Returns:
        Images of 0 to 1.
    """
    density = -x.clamp(1 / 255, 1).log()
    return torch.einsum('cd,...dhw->...chw', matrix.to(density), density).neg().exp()


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, cut at three standard deviations; the border is mirrored.

    Args:
        x: Images ``(C, H, W)``.
        sigma: Standard deviation in pixels, positive.
    """
    radius = min(max(math.ceil(3 * sigma), 1), x.shape[-1] - 1, x.shape[-2] - 1)
    if radius < 1:
        return x
    places = torch.arange(-radius, radius + 1, dtype=x.dtype)
    weights = torch.exp(-(places**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    x = F.pad(x[:, None], (radius,) * 4, mode='reflect')
    x = F.conv2d(F.conv2d(x, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return x[:, 0]


def apply_style(x: Tensor, style: Style, generator: torch.Generator | None = None) -> Tensor:
    """Gives an image an appearance.

    Args:
        x: Image ``(C, H, W)`` of 0 to 1.
        style: The appearance.
        generator: Of the noise, which differs from image to image.

    Returns:
        Image of 0 to 1, of the dtype of ``x``.

    Raises:
        ValueError: If the order of the channels or the matrix is of another number of channels.
    """
    count = len(x)
    for name, value in (('channels', style.channels), ('stains', style.stains)):
        if value is not None and len(value) != count:
            raise ValueError(f'{name} must be of {count} channels, got {value}')
    if style.invert:
        x = 1 - x
    if style.channels is not None:
        x = x[list(style.channels)]
    if style.stains is not None:
        x = mix_stains(x, torch.tensor(style.stains))
    if style.gamma != 1:
        x = x.clamp(min=0) ** style.gamma
    if style.blur:
        x = blur(x, style.blur)
    x = style.low + (style.high - style.low) * x
    if style.noise:
        x = x + style.noise * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x.clamp(0, 1)
