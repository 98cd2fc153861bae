"""Image towers of CLIP models as backbones: maps for a pyramid, and features of regions.

One interface for the three kinds of towers that open_clip has (vision transformers are its own or
timm's):

====================  ==========================  ===========================================
tower                 maps of the pyramid         a region's feature
====================  ==========================  ===========================================
vision transformer    one block, of one stride    mean of the dense features (`DenseCLIP`)
ModifiedResNet        four stages                 7 x 7 grid through its attention pool
CNN of timm           four stages                 mean of the last map through its own head
====================  ==========================  ===========================================

The objects are no modules, so that a tower stays where it is in a state dict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dense_clip import check_tower, dense_features
from .dense_vit import (
    DenseFeatures,
    accept_any_size,
    check_timm_vit,
    dense_vit_features,
    is_timm_vit,
)
from .region_pooling import (
    REGIONS_AT_A_TIME,
    attention_pool,
    box_grids,
    box_means,
    mask_means,
)

OUTSIDE = -50.0
"""Logit of a mask where there is no image."""


class TowerMaps(NamedTuple):
    """What a tower makes of images."""

    levels: tuple[Tensor, ...]
    """Maps for a pyramid, the finest first."""
    last: Tensor
    """The map ``(B, C, h, w)`` that regions are pooled from."""


class ImageTower:
    """An image tower by its maps and regions; see :func:`image_tower`.

    Attributes:
        visual: The tower of open_clip.
        channels: Channels of each level.
        strides: Strides of each level.
        stride: Stride of the last map; images are padded to a multiple of it.
    """

    visual: Any
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    stride: int

    def __call__(self, images: Tensor) -> TowerMaps:
        """Computes the maps of images of any size.

        Args:
            images: Normalized images ``(B, 3, H, W)``; padded with zeros at the right and the
                bottom to multiples of the stride.

        Returns:
            The maps.
        """
        height, width = images.shape[-2:]
        missing = (0, -width % self.stride, 0, -height % self.stride)
        if any(missing):
            images = F.pad(images, missing)
        return self._maps(images)

    def boxes(self, last: Tensor, boxes: Tensor) -> Tensor:
        """Features of boxes of an image in the space of the texts.

        Args:
            last: Map of the image ``(C, h, w)``.
            boxes: ``(N, 4)`` in pixels of the tower's input; their area may be zero.

        Returns:
            Features ``(N, D)``, not normalized.
        """
        return self._project(box_means(last, boxes.to(last.device).float() / self.stride))

    def masks(self, last: Tensor, logits: Tensor) -> Tensor:
        """Features of masks in the space of the texts.

        Args:
            last: Maps ``(B, C, h, w)``.
            logits: Mask logits ``(B, Q, H, W)`` at the size of the tower's input.

        Returns:
            Features ``(B, Q, D)``, not normalized.
        """
        size = [self.stride * cells for cells in last.shape[-2:]]
        missing = (0, size[1] - logits.shape[-1], 0, size[0] - logits.shape[-2])
        if any(missing):  # what the images were padded by lies in no mask
            logits = F.pad(logits, missing, value=OUTSIDE)
        means = mask_means(last, logits)
        return self._project(means.flatten(0, 1)).unflatten(0, means.shape[:2])

    def _maps(self, images: Tensor) -> TowerMaps:
        raise NotImplementedError

    def _project(self, means: Tensor) -> Tensor:
        """Features ``(N, D)`` of means ``(N, C)`` of the last map."""
        raise NotImplementedError


class TransformerTower(ImageTower):
    """A vision transformer: dense features, and the map of one block.

    Args:
        visual: ``open_clip.transformer.VisionTransformer``, or ``open_clip.timm_model.TimmModel``
            with a vision transformer, which takes images of any size from now on.
        taps: Blocks whose maps are the levels; None: the last but one.
    """

    def __init__(self, visual: nn.Module, taps: Sequence[int] | None = None):
        self.visual = visual
        self._dense: Callable[[Any, Tensor, Sequence[int]], DenseFeatures]
        if is_timm_vit(visual):
            trunk = self.visual.trunk
            depth, width = len(trunk.blocks), trunk.embed_dim
            self.stride = trunk.patch_embed.feat_ratio()
            check, self._dense = check_timm_vit, dense_vit_features
            accept_any_size(visual)
        else:
            conv = self.visual.conv1
            depth, width = len(self.visual.transformer.resblocks), conv.out_channels
            self.stride = conv.stride[0]
            check, self._dense = check_tower, dense_features
        self.taps = (depth - 2,) if taps is None else tuple(taps)
        check(visual, self.taps)
        self.channels = (width,) * len(self.taps)
        self.strides = (self.stride,) * len(self.taps)

    def _maps(self, images: Tensor) -> TowerMaps:
        dense = self._dense(self.visual, images, self.taps)
        return TowerMaps(dense.intermediate, dense.features)

    def _project(self, means: Tensor) -> Tensor:
        return means  # dense features are in the space of the texts


class ResNetTower(ImageTower):
    """CLIP's ResNet with attention pooling.

    Boxes are resampled to the grid of the pool's position embedding; the cells of a mask become a
    single value (a pool needs a grid, which a mask has not), whose output is that of its value and
    output projections.

    Args:
        visual: ``open_clip.modified_resnet.ModifiedResNet``.
    """

    stride = 32
    strides = (4, 8, 16, 32)

    def __init__(self, visual: nn.Module):
        self.visual = visual
        width = self.visual.attnpool.q_proj.in_features
        self.channels = (width // 8, width // 4, width // 2, width)
        self.side = round((len(self.visual.attnpool.positional_embedding) - 1) ** 0.5)

    def _maps(self, images: Tensor) -> TowerMaps:
        visual, levels = self.visual, []
        x = visual.stem(images.to(visual.conv1.weight.dtype))
        for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            x = stage(x)
            levels.append(x)
        return TowerMaps(tuple(levels), x)

    def boxes(self, last: Tensor, boxes: Tensor) -> Tensor:
        """See :meth:`ImageTower.boxes`."""
        boxes = boxes.to(last.device).float() / self.stride
        found = [
            attention_pool(self.visual.attnpool, box_grids(last, part, self.side))
            for part in boxes.split(REGIONS_AT_A_TIME)
        ]
        return torch.cat(found)

    def _project(self, means: Tensor) -> Tensor:
        pool = self.visual.attnpool
        return pool.c_proj(pool.v_proj(means))


class TimmTower(ImageTower):
    """A convolutional network of timm, such as CLIP's ConvNeXt.

    Args:
        visual: ``open_clip.timm_model.TimmModel``.

    Raises:
        ValueError: If its stages do not have the strides 4, 8, 16 and 32, or it pools by attention
            over a fixed grid.
    """

    stride = 32
    strides = (4, 8, 16, 32)

    def __init__(self, visual: nn.Module):
        self.visual = visual
        if 'pool' in dict(self.visual.head.named_children()):
            raise ValueError('visual must pool its map by the mean, got a head with attention')
        stages = list(getattr(self.visual.trunk, 'feature_info', None) or ())
        if stages and not isinstance(stages[0], dict):
            stages = []
        at = {stage['reduction']: i for i, stage in enumerate(stages)}
        if not set(self.strides) <= set(at):
            raise ValueError(
                f'visual must have stages of the strides {self.strides}, '
                f'{type(self.visual.trunk).__name__} has {sorted(at)}'
            )
        self.indices = [at[stride] for stride in self.strides]
        self.channels = tuple(stages[i]['num_chs'] for i in self.indices)

    def _maps(self, images: Tensor) -> TowerMaps:
        last, levels = self.visual.trunk.forward_intermediates(images, indices=self.indices)
        return TowerMaps(tuple(levels), last)

    def _project(self, means: Tensor) -> Tensor:
        pooled = self.visual.trunk.forward_head(means[..., None, None])
        return self.visual.head(pooled)


def image_tower(visual: nn.Module, taps: Sequence[int] | None = None) -> ImageTower:
    """The tower of a CLIP model by its maps and regions.

    Args:
        visual: Image tower of open_clip: a vision transformer, its own or of timm, a
            ModifiedResNet, or a convolutional network of timm.
        taps: Blocks of a vision transformer whose maps are the levels; None: the last but one.

    Returns:
        Its interface, which keeps a reference to ``visual``.

    Raises:
        TypeError: If it is none of these.
        ValueError: If ``taps`` are given for a network with stages, or see the classes.
    """
    if hasattr(visual, 'attnpool') and hasattr(visual, 'stem'):
        found: ImageTower = ResNetTower(visual)
    elif is_timm_vit(visual) or hasattr(visual, 'transformer'):
        return TransformerTower(visual, taps)
    elif hasattr(visual, 'trunk') and hasattr(visual, 'head'):
        found = TimmTower(visual)
    else:
        raise TypeError(
            'visual must be a vision transformer, a ModifiedResNet or a network of timm, got '
            f'{type(visual).__name__}'
        )
    if taps is not None:
        raise ValueError(f'taps are for vision transformers, got {taps!r} for a network of stages')
    return found
