"""Dense features of CLIP's vision transformer, at any image size.

The last block looks at nothing but its own position (CAT-Seg, CVPR 2024; known as "MaskCLIP
features"): its attention is left out and only the value path is kept,

    v   = W_o (W_v LN1(x) + b_v) + b_o
    y   = x_CLS + v
    out = y + MLP(LN2(y))

so that every position keeps its place in the space of the text features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import torch.nn.functional as F
from torch import Tensor, cat, nn
from torch.utils.checkpoint import checkpoint

from ...compat import is_exporting
from ..hyperclip.adapted_weight import attention_input
from .dense_vit import DenseFeatures, check_timm_vit, dense_vit_features, is_timm_vit


class Block(Protocol):
    """A transformer block of open_clip."""

    attn: nn.MultiheadAttention
    ln_1: Callable[[Tensor], Tensor]
    ls_1: Callable[[Tensor], Tensor]
    ln_2: Callable[[Tensor], Tensor]
    mlp: Callable[[Tensor], Tensor]
    ls_2: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor, /) -> Tensor: ...


class Transformer(Protocol):
    """The blocks of a vision tower of open_clip."""

    resblocks: Sequence[Block]
    grad_checkpointing: bool


class VisionTower(Protocol):
    """What :func:`dense_features` uses of ``open_clip.transformer.VisionTransformer``."""

    training: bool
    conv1: nn.Conv2d
    class_embedding: Tensor
    positional_embedding: Tensor
    grid_size: tuple[int, int]
    ln_pre: Callable[[Tensor], Tensor]
    transformer: Transformer
    ln_post: Callable[[Tensor], Tensor]
    proj: Tensor | None
    attn_pool: Any
    patch_dropout: Any


def dense_block(block: Block, x: Tensor) -> Tensor:
    """A transformer block whose attention is replaced by its value path.

    As in the official code of CAT-Seg, the residual is the CLS token at every position, not the
    token of the position.

    Args:
        block: Block of open_clip: ``ln_1``, ``attn`` (:class:`torch.nn.MultiheadAttention`, whose
            projection may be parametrized), ``ls_1``, ``ln_2``, ``mlp``, ``ls_2``.
        x: Tokens ``(B, L, d)``; the first is CLS.

    Returns:
        Tokens ``(B, L, d)``.
    """
    attention, width = block.attn, x.shape[-1]
    weight, bias = attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :]
    entering = attention_input(attention, block.ln_1(x), 'v')
    value = attention.out_proj(F.linear(entering, weight, bias))
    y = x[:, :1] + block.ls_1(value)
    return y + block.ls_2(block.mlp(block.ln_2(y)))


def exported_block(block: Block, x: Tensor) -> Tensor:
    """A transformer block in operations that know no number of tokens.

    :class:`torch.nn.MultiheadAttention` writes the number of tokens of the traced images into its
    reshapes.

    Args:
        block: See :func:`dense_block`; in evaluation, without a mask.
        x: Tokens ``(B, L, d)``.

    Returns:
        Tokens ``(B, L, d)``.
    """
    attention, entering = block.attn, block.ln_1(x)
    weights = attention.in_proj_weight.chunk(3)
    biases = attention.in_proj_bias.chunk(3)
    query, key, value = (
        F.linear(attention_input(attention, entering, name), weight, bias)
        .unflatten(-1, (attention.num_heads, -1))
        .transpose(1, 2)
        for name, weight, bias in zip('qkv', weights, biases)
    )
    found = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(-2)
    x = x + block.ls_1(attention.out_proj(found))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def resize_positions(positions: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """Resizes the position embedding of a grid of patches (bicubic).

    Args:
        positions: ``(1 + rows * columns, d)``; the first is CLS's and stays.
        old: Rows and columns.
        new: Wanted rows and columns.

    Returns:
        ``(1 + new rows * new columns, d)``.
    """
    if not is_exporting() and tuple(old) == tuple(new):
        return positions
    grid = positions[1:].T.unflatten(1, tuple(old))[None].float()
    grid = F.interpolate(grid, size=tuple(new), mode='bicubic', align_corners=False)
    return cat([positions[:1], grid[0].flatten(1).T.to(positions.dtype)])


def dense_features(visual: VisionTower, images: Tensor, taps: Sequence[int] = ()) -> DenseFeatures:
    """Dense features of a vision tower and the maps of some of its blocks.

    Args:
        visual: ``open_clip.transformer.VisionTransformer``, or anything with its parts.
        images: Normalized images ``(B, 3, H, W)``; H and W are multiples of the patch size.
        taps: Blocks whose output is wanted, counted from 0; not the last.

    Returns:
        The features and the maps.

    Raises:
        ValueError: If the images do not divide into patches.
    """
    rows, columns = patch_grid(visual, images)
    blocks = visual.transformer.resblocks
    x = visual.conv1(images.to(visual.conv1.weight.dtype)).flatten(2).transpose(-2, -1)
    cls = visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
    positions = resize_positions(visual.positional_embedding, visual.grid_size, (rows, columns))
    x = visual.ln_pre(cat([cls, x], dim=1) + positions.to(x.dtype))
    maps = {}
    for index, block in enumerate(blocks[:-1]):
        if visual.transformer.grad_checkpointing and visual.training:
            x = checkpoint(block, x, use_reentrant=False)
        elif is_exporting():
            x = exported_block(block, x)
        else:
            x = block(x)
        if index in taps:
            maps[index] = x[:, 1:].transpose(-2, -1).unflatten(2, (rows, columns))
    x = visual.ln_post(dense_block(blocks[-1], x)[:, 1:])
    if visual.proj is not None:
        x = x @ visual.proj
    return DenseFeatures(
        x.transpose(-2, -1).unflatten(2, (rows, columns)), tuple(maps[index] for index in taps)
    )


def patch_grid(visual: VisionTower, images: Tensor) -> tuple[int, int]:
    """Rows and columns of patches.

    Raises:
        ValueError: If the images do not divide into patches.
    """
    height, width = images.shape[-2:]
    patch = visual.conv1.stride
    if not is_exporting() and (height % patch[0] or width % patch[1]):
        raise ValueError(
            f'image height and width must be multiples of the patch size {patch}, '
            f'got {height} x {width}'
        )
    return height // patch[0], width // patch[1]


def check_tower(visual: nn.Module, taps: Sequence[int] = ()) -> None:
    """Checks that dense features can be computed from a vision tower.

    Args:
        visual: The tower.
        taps: Blocks whose maps are wanted.

    Raises:
        TypeError: If it is no vision transformer of open_clip's form.
        ValueError: If it pools or drops patches, or has no such block.
    """
    parts = ('conv1', 'class_embedding', 'positional_embedding', 'ln_pre', 'transformer', 'ln_post')
    missing = [part for part in parts if not hasattr(visual, part)]
    if missing:
        raise TypeError(
            f"visual must be a vision transformer of open_clip's form, {type(visual).__name__} "
            f'lacks {missing}'
        )
    tower = cast(VisionTower, visual)
    blocks = tower.transformer.resblocks
    for block in blocks:
        attention = block.attn
        if not isinstance(attention, nn.MultiheadAttention) or not attention.batch_first:
            raise TypeError('visual must have blocks of torch.nn.MultiheadAttention, batch first')
    if tower.attn_pool is not None:
        raise ValueError('visual must not pool by attention: it has no dense features')
    if not isinstance(tower.patch_dropout, nn.Identity):
        raise ValueError('visual must not drop patches: set patch_dropout=0 in its config')
    wrong = [tap for tap in taps if not 0 <= tap < len(blocks) - 1]
    if wrong:
        raise ValueError(f'taps must lie in 0..{len(blocks) - 2}, got {wrong}')


class DenseCLIP(nn.Module):
    """A vision tower that returns dense features instead of one feature an image.

    Example:
        >>> dense = DenseCLIP(clip.visual, taps=(3, 7))
        >>> features, (early, late) = dense(images)

    Args:
        visual: ``open_clip.transformer.VisionTransformer``, or ``open_clip.timm_model.TimmModel``
            with a vision transformer (SigLIP, EVA02, MobileCLIP-B, PE, ViTamin).
        taps: Blocks whose output is wanted, counted from 0; not the last.

    Raises:
        TypeError: If ``visual`` is no vision transformer of open_clip's form.
        ValueError: If it pools or drops patches, or has no such block.
    """

    def __init__(self, visual: nn.Module, taps: Sequence[int] = ()) -> None:
        super().__init__()
        self.of_timm = is_timm_vit(visual)
        (check_timm_vit if self.of_timm else check_tower)(visual, taps)
        self.visual, self.taps = visual, tuple(taps)

    def forward(self, images: Tensor) -> DenseFeatures:
        """Dense features; see :func:`dense_features` and :mod:`.dense_vit`."""
        if self.of_timm:
            return dense_vit_features(self.visual, images, self.taps)
        return dense_features(cast(VisionTower, self.visual), images, self.taps)
