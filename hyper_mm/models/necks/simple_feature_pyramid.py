"""A feature pyramid for plain backbones."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from hyper_mm.checks import check_at_least
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.registry import MODELS

SCALES = (4.0, 2.0, 1.0, 0.5)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a feature map ``(B, C, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes each position."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


@MODELS.register_module()
class SimpleFeaturePyramid(OwnInit, BaseModule):
    """Pyramid from the last map of a plain ViT: scaled copies, each through two convolutions.

    A map of stride 16 becomes maps of strides 4, 8, 16 and 32: by two transposed convolutions, by
    one, as it is, and by a maximum over 2 x 2. A 1 x 1 and a 3 x 3 convolution with layer norm
    follow.

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of the pyramid.
        scales: Factors of the size, of 4, 2, 1 and 0.5, in descending order.
        num_outs: Levels of the result; those beyond ``scales`` are each every second position of
            the one before, as in mmdet's FPN.
        init_cfg: Initialization config of mmengine.

    Raises:
        ValueError: For unknown ``scales``, fewer ``num_outs`` than scales, or ``in_channels`` that
            the scales do not divide; in forward, for a map of other channels.

    Source: Li et al., Exploring Plain Vision Transformer Backbones for Object Detection (ECCV 2022,
    arXiv 2203.16527).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        scales: Sequence[float] = SCALES,
        num_outs: int = 5,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        scales = tuple(float(s) for s in scales)
        if not scales or set(scales) - set(SCALES) or list(scales) != sorted(scales, reverse=True):
            raise ValueError(f'scales must be of {SCALES} in descending order, got {scales}')
        check_at_least(len(scales), num_outs=num_outs)
        if in_channels % 4:
            raise ValueError(f'in_channels must be divisible by 4, got {in_channels}')
        self.in_channels = in_channels
        self.num_outs = num_outs
        self.scalings = nn.ModuleList(self._scaling(in_channels, s) for s in scales)
        widths = [in_channels // max(1, int(s)) for s in scales]
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, out_channels, 1, bias=False),
                ChannelNorm(out_channels, eps=1e-6),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                ChannelNorm(out_channels, eps=1e-6),
            )
            for width in widths
        )

    @staticmethod
    def _scaling(dim: int, scale: float) -> nn.Module:
        if scale == 4:
            return nn.Sequential(
                nn.ConvTranspose2d(dim, dim // 2, 2, stride=2),
                ChannelNorm(dim // 2, eps=1e-6),
                nn.GELU(),
                nn.ConvTranspose2d(dim // 2, dim // 4, 2, stride=2),
            )
        if scale == 2:
            return nn.ConvTranspose2d(dim, dim // 2, 2, stride=2)
        return nn.Identity() if scale == 1 else nn.MaxPool2d(2, stride=2, ceil_mode=True)

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Builds the pyramid.

        Args:
            inputs: Feature maps ``(B, C, H, W)``, of which the last counts.

        Returns:
            ``num_outs`` maps ``(B, out_channels, ...)``, the finest first.
        """
        x = inputs if isinstance(inputs, Tensor) else inputs[-1]
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f'SimpleFeaturePyramid takes a map (B, {self.in_channels}, H, W), got '
                f"{tuple(x.shape)}: set in_channels, and out_type='featmap' in a ViT backbone"
            )
        levels = [conv(scaling(x)) for scaling, conv in zip(self.scalings, self.convs)]
        while len(levels) < self.num_outs:
            levels.append(F.max_pool2d(levels[-1], 1, stride=2))
        return tuple(levels)
