"""Decoder of a U-Net behind any backbone."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from mmseg.models.backbones.unet import BasicConvBlock
from mmseg.models.utils import UpConvBlock
from torch import Tensor, nn

from hyper_mm.registry import MODELS


@MODELS.register_module()
class UNetDecoder(BaseModule):
    """Goes up from the deepest level of a backbone to its first, with the skips of a U-Net.

    Each step enlarges the map twice (bilinear), joins the next level and convolves, by the blocks
    of mmseg's ``UNet``. Ronneberger et al., U-Net, MICCAI 2015.

    Args:
        in_channels: Channels of the levels, the first one of the highest resolution; each has half
            the resolution of the one before.
        out_channels: Channels after each step up, the last one that of the result; one less than
            there are levels.
        num_convs: Convolutions of a step.
        norm_cfg: Norms of the decoder.
        init_cfg: Initialization config of mmengine.

    Raises:
        ValueError: If there are fewer than two levels or another number of ``out_channels``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        num_convs: int = 1,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if len(in_channels) < 2 or len(out_channels) != len(in_channels) - 1:
            raise ValueError(
                'in_channels must be of at least two levels and out_channels of one less, got '
                f'{list(in_channels)} and {list(out_channels)}'
            )
        up = dict(type='mmseg.InterpConv', upsample_cfg=dict(scale_factor=2, mode='bilinear'))
        deep = [in_channels[-1], *out_channels[:-1]]
        self.steps = nn.ModuleList(
            UpConvBlock(
                BasicConvBlock,
                channels,
                skip,
                out,
                num_convs=num_convs,
                norm_cfg=dict(type='GN', num_groups=8) if norm_cfg is None else norm_cfg,
                upsample_cfg=up,
            )
            for channels, skip, out in zip(deep, [*in_channels[-2::-1]], out_channels)
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor]:
        """Decodes the levels of a backbone.

        Args:
            inputs: Feature maps, the first one of the highest resolution.

        Returns:
            One map of the resolution of the first level.

        Raises:
            ValueError: If a level has not half the size of the one before.
        """
        x = inputs[-1]
        for step, skip in zip(self.steps, [*inputs[-2::-1]]):
            if skip.shape[-1] != 2 * x.shape[-1] or skip.shape[-2] != 2 * x.shape[-2]:
                raise ValueError(
                    'each level must have half the size of the one before, got '
                    f'{[(*level.shape[-2:],) for level in inputs]}: pad images to a multiple of '
                    'the greatest stride (size_divisor of the data_preprocessor)'
                )
            x = step(skip, x)
        return (x,)
