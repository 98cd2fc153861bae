"""The small convolutional network of few-shot learning, as a backbone."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor

from hyper_mm.layers.meta.conv_blocks import ConvBlocks as Blocks
from hyper_mm.registry import MODELS


@MODELS.register_module()
class ConvBlocks(BaseModule):
    """:class:`hyper_mm.layers.ConvBlocks` as a backbone with one map.

    Args:
        in_channels: Channels of the images.
        channels: Channels of each block.
        depth: Number of blocks.
        init_cfg: Initialization config of mmengine; torch's own where it is None.
    """

    def __init__(
        self,
        in_channels: int = 3,
        channels: int = 64,
        depth: int = 4,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.blocks = Blocks(in_channels, channels, depth)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Runs the network.

        Args:
            x: Images ``(B, in_channels, H, W)``.

        Returns:
            Its last map.
        """
        return (self.blocks(x),)
