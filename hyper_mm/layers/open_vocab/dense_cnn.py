"""Dense features of CLIP models whose image tower is a convolutional network.

Its head pools the last map and projects the mean. The same head on each position by itself, pooled
over that position alone, leaves a map in the space of the text features:

    out_p = head(x_p),    x the last map of the trunk

For a linear head, the mean of ``out`` is the feature of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .dense_clip import DenseFeatures


def is_cnn(visual: nn.Module) -> bool:
    """Whether an image tower is a pyramid of maps that are pooled by their mean.

    open_clip takes such towers from timm: EfficientNet, ConvNeXt, ResNet.
    """
    trunk: Any = getattr(visual, 'trunk', None)
    if trunk is None or not hasattr(trunk, 'forward_intermediates'):
        return False
    if not hasattr(trunk, 'feature_info') or getattr(trunk, 'output_fmt', 'NCHW') != 'NCHW':
        return False
    return len(set(reductions(visual))) > 1 and not hasattr(visual.head, 'pool')


def reductions(visual: nn.Module) -> list[int]:
    """Pixels a position of each map of a convolutional tower, from the first map to the last."""
    trunk: Any = visual.trunk
    return [stage['reduction'] for stage in trunk.feature_info]


def guidance_taps(visual: nn.Module) -> tuple[int, int]:
    """The maps with two and four times as many rows and columns as the last.

    Raises:
        ValueError: If the tower has no such maps.
    """
    strides = reductions(visual)
    wanted = [strides[-1] // k for k in (2, 4)]
    if any(stride not in strides for stride in wanted):
        raise ValueError(f'visual must have maps at the strides {wanted}, got {strides}')
    places = [len(strides) - 1 - strides[::-1].index(stride) for stride in wanted]
    return places[0], places[1]


def dense_cnn_features(
    visual: nn.Module, images: Tensor, taps: Sequence[int] = ()
) -> DenseFeatures:
    """Dense features of a convolutional tower and some of its maps.

    Args:
        visual: ``open_clip.timm_model.TimmModel`` for which :func:`is_cnn` holds.
        images: Normalized images ``(B, 3, H, W)`` of any size.
        taps: Maps that are wanted, counted from 0, which has the highest resolution.

    Returns:
        Features ``(B, D, h, w)``, h and w being the size over the last of :func:`reductions`,
        rounded up, and the maps at their own resolutions, in the order of ``taps``.

    Raises:
        ValueError: If there is no such map.
    """
    count = len(reductions(visual))
    wrong = [tap for tap in taps if not 0 <= tap < count]
    if wrong:
        raise ValueError(f'taps must lie in 0..{count - 1}, got {wrong}')
    trunk: Any = visual.trunk
    maps: dict[int, Tensor] = {}
    if taps:
        last, found = trunk.forward_intermediates(images, indices=sorted(set(taps)))
        maps = dict(zip(sorted(set(taps)), found))
    else:
        last = trunk.forward_features(images)
    batch, _, rows, columns = last.shape
    # every position is an image of one position
    cells = last.permute(0, 2, 3, 1).flatten(0, 2)[..., None, None]  # (B * h * w, C, 1, 1)
    head: Any = visual.head
    features = head(trunk.forward_head(cells))
    features = features.unflatten(0, (batch, rows, columns)).permute(0, 3, 1, 2)
    return DenseFeatures(features, tuple(maps[tap] for tap in taps))


class DenseCNN(nn.Module):
    """A convolutional image tower that returns dense features instead of one feature an image.

    Example:
        >>> dense = DenseCNN(clip.visual)
        >>> scores = torch.einsum('bdhw,td->bthw', dense(images).features, texts)

    Args:
        visual: ``open_clip.timm_model.TimmModel``.
        taps: Maps that are wanted, counted from 0, which has the highest resolution.

    Raises:
        TypeError: If it is no such tower.
    """

    def __init__(self, visual: nn.Module, taps: Sequence[int] = ()) -> None:
        super().__init__()
        if not is_cnn(visual):
            raise TypeError(
                "visual must be a convolutional network of timm in open_clip's form with average "
                f'pooling, got {type(visual).__name__}'
            )
        self.visual, self.taps = visual, tuple(taps)

    def forward(self, images: Tensor) -> DenseFeatures:
        """Dense features; see :func:`dense_cnn_features`."""
        return dense_cnn_features(self.visual, images, self.taps)


def contenders(scores: Tensor) -> Tensor:
    """Classes that can be the best somewhere after bilinear resizing.

    An interpolated score lies between those of the four positions around it. A class whose highest
    of the four is below the lowest of another one is beaten between them, and one that is beaten
    everywhere need not be resized. Most of thousands of names are.

    Args:
        scores: ``(T, h, w)``.

    Returns:
        Their indices, in order.
    """
    padded = nn.functional.pad(scores[None], (1, 1, 1, 1), mode='replicate')
    high = nn.functional.max_pool2d(padded, 2, 1)[0]
    low = -nn.functional.max_pool2d(-padded, 2, 1)[0]
    best = low.amax(0)
    best = best - 1e-5 * best.abs()  # what interpolation may round
    return (high >= best).flatten(1).any(1).nonzero()[:, 0]
