"""Distribution of the appearances of images, for transforms and for episodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hyper_mm.checks import check_at_least, check_not_negative, check_range
from hyper_mm.ops.style import Style, apply_style


class StyleSampler:
    """Draws a :class:`hyper_mm.ops.style.Style`.

    Args:
        prob: Probability that there is a style at all.
        invert: Probability of the inversion.
        shuffle: Probability of another order of the channels.
        gamma: The exponent is between ``1 / gamma`` and this, uniform in its logarithm; 1 for none.
        contrast: Black and white move inwards by at most this share of the range each.
        stains: Share of the other channels in each optical density, at most; 0 for none.
        blur: Greatest standard deviation of the blur in pixels; half of the styles blur.
        noise: Greatest standard deviation of the noise as a share of the range; half of the styles
            are noisy.

    Raises:
        ValueError: If a probability or share is outside of its range.
    """

    def __init__(
        self,
        prob: float = 1.0,
        invert: float = 0.5,
        shuffle: float = 0.5,
        gamma: float = 2.0,
        contrast: float = 0.25,
        stains: float = 0.5,
        blur: float = 1.0,
        noise: float = 0.05,
    ):
        check_range('[0, 1]', prob=prob, invert=invert, shuffle=shuffle, stains=stains)
        check_range('[0, 0.5)', contrast=contrast)
        check_at_least(1, gamma=gamma)
        check_not_negative(blur=blur, noise=noise)
        self.prob, self.invert, self.shuffle, self.gamma = prob, invert, shuffle, gamma
        self.contrast, self.stains, self.blur, self.noise = contrast, stains, blur, noise

    def draw(self, random: np.random.Generator, channels: int = 3) -> Style:
        """Draws a style.

        Args:
            random: Source of the draws.
            channels: Number of channels of the images.
        """
        if random.random() >= self.prob:
            return Style()
        order = random.permutation(channels) if random.random() < self.shuffle else None
        stains = None
        if self.stains and channels > 1:
            others = random.dirichlet(np.ones(channels), channels)
            share = random.uniform(0, self.stains, (channels, 1))
            stains = (1 - share) * np.eye(channels) + share * others
        low, high = random.uniform(0, self.contrast, 2)
        return Style(
            invert=bool(random.random() < self.invert),
            channels=None if order is None else tuple(order.tolist()),
            gamma=float(self.gamma ** random.uniform(-1, 1)),
            low=float(low),
            high=float(1 - high),
            stains=None if stains is None else tuple(map(tuple, stains.tolist())),
            blur=float(self.blur * max(0.0, random.uniform(-1, 1))),
            noise=float(self.noise * max(0.0, random.uniform(-1, 1))),
        )


def with_style(x: Tensor, style: Style, seed: int | Sequence[int] | None = None) -> Tensor:
    """Gives an image of 0 to 255 an appearance.

    Args:
        x: Image ``(C, H, W)`` of any dtype.
        style: The appearance.
        seed: Of the noise; that of torch if None.

    Returns:
        Image of the same dtype; integers are rounded.
    """
    if style == Style():
        return x
    generator = None
    if seed is not None:
        state = int(np.random.default_rng(seed).integers(2**62))
        generator = torch.Generator().manual_seed(state)
    found = 255 * apply_style(x.float() / 255, style, generator)
    return found.to(x.dtype) if x.is_floating_point() else found.round().to(x.dtype)
