"""Dense features of CLIP models whose image tower is a vision transformer of timm.

SigLIP, PE, EVA02, MobileCLIP-B and ViTamin are such towers. What a tower makes of all tokens in the
end is done with each position by itself, as if it were all there is (the idea of MaskCLIP; see
:mod:`hyper_mm.layers.open_vocab.dense_clip`). With one token, attention is its value path:

=================  =================================================================
pooling            a position p with its token x_p before (*) or after the last block
=================  =================================================================
attention pool     head(pool({x_p}))
class token (*)    head(norm(y_p + MLP(norm2(y_p)))),  y_p = x_CLS + attention({norm1(x_p)})
mean               head(x_p)
=================  =================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

BLOCK_PARTS = ('norm1', 'attn', 'norm2', 'mlp')


class DenseFeatures(NamedTuple):
    """What :class:`hyper_mm.layers.DenseCLIP` returns; ``h x w`` patches of an image."""

    features: Tensor
    """``(B, D, h, w)``, in the space of the text features; not normalized."""
    intermediate: tuple[Tensor, ...]
    """Maps ``(B, width, h, w)``, one for each of the chosen blocks."""


def is_timm_vit(visual: nn.Module) -> bool:
    """Whether an image tower is a vision transformer of timm in open_clip's form."""
    trunk = getattr(visual, 'trunk', None)
    parts = ('patch_embed', 'blocks', 'num_prefix_tokens', 'forward_intermediates', 'fc_norm')
    return all(hasattr(trunk, part) for part in parts)


def check_timm_vit(visual: nn.Module, taps: Sequence[int] = ()) -> None:
    """Checks that dense features can be computed from a vision transformer of timm.

    Args:
        visual: ``open_clip.timm_model.TimmModel`` for which :func:`is_timm_vit` holds.
        taps: Blocks whose maps are wanted.

    Raises:
        ValueError: If its last block has another form where it pools at the class token, or there
            is no such block as ``taps`` name.
    """
    trunk: Any = visual.trunk
    if _at_class_token(trunk):
        last = trunk.blocks[-1]
        missing = [part for part in BLOCK_PARTS if not hasattr(last, part)]
        if missing or 'Post' in type(last).__name__:
            raise ValueError(
                'visual must have norms in front of attention and MLP to have dense features, '
                f'got blocks of {type(last).__name__}'
            )
    wrong = [tap for tap in taps if not 0 <= tap < len(trunk.blocks) - 1]
    if wrong:
        raise ValueError(f'taps must lie in 0..{len(trunk.blocks) - 2}, got {wrong}')


def accept_any_size(visual: nn.Module) -> None:
    """Lets a vision transformer of timm take images of any multiple of its patches.

    As its networks do that are made with ``dynamic_img_size=True``: position embeddings are
    interpolated where the size is not their own; at that, nothing changes.

    Args:
        visual: ``open_clip.timm_model.TimmModel`` for which :func:`is_timm_vit` holds.

    Raises:
        ValueError: If the network has no such option, or keeps rotary positions for one size.
    """
    trunk: Any = visual.trunk
    if getattr(getattr(trunk, 'rope', None), 'pos_embed', None) is not None:
        raise ValueError(
            'visual must not keep rotary positions for images of one size, as '
            f'{type(trunk).__name__} does where it is not made with dynamic_img_size=True'
        )
    options = dict(strict_img_size=False, flatten=False, output_fmt='NHWC')
    missing = [name for name in options if not hasattr(trunk.patch_embed, name)]
    if missing or not hasattr(trunk, 'dynamic_img_size'):
        raise ValueError(
            'visual must be of a kind that timm makes for images of any size (dynamic_img_size), '
            f'got {type(trunk).__name__}'
        )
    trunk.dynamic_img_size = True
    for name, value in options.items():
        setattr(trunk.patch_embed, name, value)


def dense_vit_features(
    visual: nn.Module, images: Tensor, taps: Sequence[int] = ()
) -> DenseFeatures:
    """Dense features of a vision transformer of timm, and the maps of some of its blocks.

    Args:
        visual: ``open_clip.timm_model.TimmModel`` that :func:`check_timm_vit` passes.
        images: Normalized images ``(B, 3, H, W)`` of the size of the tower, or of any multiple of
            its patches after :func:`accept_any_size`.
        taps: Blocks whose output is wanted, counted from 0; not the last.

    Returns:
        Features ``(B, D, h, w)`` and maps ``(B, width, h, w)``.
    """
    trunk: Any = visual.trunk
    head: Any = visual.head
    last = len(trunk.blocks) - 1
    wanted = sorted({*taps, last - 1} if _at_class_token(trunk) else set(taps)) or [last]
    prefixed = trunk.num_prefix_tokens > 0
    if _at_class_token(trunk):
        found = trunk.forward_intermediates(
            images, wanted, return_prefix_tokens=True, stop_early=True, intermediates_only=True
        )
        maps = {place: tokens for place, (tokens, _) in zip(wanted, found)}
        _, prefix = found[-1]
        entering = maps[last - 1]
        size = entering.shape[-2:]
        cells = _with_class_token(trunk, entering.flatten(2).mT, prefix[:, :1])
    else:
        tokens, found = trunk.forward_intermediates(images, wanted)
        maps = dict(zip(wanted, found))
        size = found[-1].shape[-2:]
        cells = tokens[:, trunk.num_prefix_tokens :] if prefixed else tokens
    batch, count = cells.shape[:2]
    alone = cells.flatten(0, 1).unsqueeze(1)  # (B * h * w, 1, C): every position for itself
    pool = getattr(trunk, 'attn_pool', None)
    pooled = alone[:, 0] if pool is None else pool(alone)
    features = head(trunk.head(trunk.head_drop(trunk.fc_norm(pooled))))
    features = features.unflatten(0, (batch, count)).mT.unflatten(2, size)
    return DenseFeatures(features, tuple(maps[tap] for tap in taps))


def _at_class_token(trunk: Any) -> bool:
    """Whether a tower is pooled at its class token."""
    return getattr(trunk, 'attn_pool', None) is None and trunk.global_pool == 'token'


def _with_class_token(trunk: Any, tokens: Tensor, class_token: Tensor) -> Tensor:
    """The last block on each token ``(B, L, C)`` alone, added to the class token; normalized."""
    block = trunk.blocks[-1]
    alone = tokens.flatten(0, 1).unsqueeze(1)
    value = block.attn(block.norm1(alone)).squeeze(1).unflatten(0, tokens.shape[:2])
    x = class_token + _scaled(block, value, 1)
    return trunk.norm(x + _scaled(block, block.mlp(block.norm2(x)), 2))


def _scaled(block: Any, x: Tensor, part: int) -> Tensor:
    """The layer scale of a part of a block: ``ls`` of vision transformers, ``gamma`` of EVA's."""
    if hasattr(block, f'ls{part}'):
        return getattr(block, f'ls{part}')(x)
    gamma = getattr(block, f'gamma_{part}', None)
    return x if gamma is None else gamma * x
