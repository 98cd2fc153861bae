"""The small convolutional network as a backbone."""

import torch

from hyper_mm.registry import MODELS


def test_one_map():
    model = MODELS.build(dict(type='hyper_mm.ConvBlocks', in_channels=1, channels=4, depth=2))
    (found,) = model(torch.randn(2, 1, 8, 12))
    assert found.shape == (2, 4, 2, 3)
