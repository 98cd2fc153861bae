"""The small convolutional network on which few-shot learning is compared."""

from __future__ import annotations

from torch import Tensor, nn

from ...checks import check_count


class ConvBlocks(nn.Sequential):
    """Blocks of 3x3 convolution, batch norm, ReLU and 2x2 max pooling.

    With four blocks of 64 channels the network of Vinyals et al., Matching Networks for One Shot
    Learning, NeurIPS 2016, on which ProtoNet and MAML were published ("Conv-4").

    Args:
        in_channels: Channels of the images.
        channels: Channels of each block.
        depth: Number of blocks; images must have at least ``2 ** depth`` pixels a side.

    Raises:
        ValueError: For counts below 1.
    """

    def __init__(self, in_channels: int = 3, channels: int = 64, depth: int = 4):
        check_count(1, in_channels=in_channels, channels=channels, depth=depth)
        super().__init__(
            *(
                nn.Sequential(
                    nn.Conv2d(channels if i else in_channels, channels, 3, padding=1),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                    nn.MaxPool2d(2),
                )
                for i in range(depth)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Runs the blocks.

        Args:
            x: Images ``(B, in_channels, H, W)``.

        Returns:
            A map ``(B, channels, H / 2^depth, W / 2^depth)``.

        Raises:
            ValueError: If the images are too small.
        """
        if min(x.shape[-2:]) < 2 ** len(self):
            raise ValueError(
                f'images must have at least {2 ** len(self)} pixels a side, got {tuple(x.shape)}'
            )
        return super().forward(x)
