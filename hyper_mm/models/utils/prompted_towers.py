"""The two towers of open_clip with prompt vectors among their tokens."""

from __future__ import annotations

from collections.abc import Sequence

import open_clip
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as checkpoint_activations


def check_towers(clip: open_clip.CLIP) -> None:
    """Raises ValueError for a model whose towers cannot take prompts."""
    if clip.text_pool_type != 'argmax' or clip.attn_mask is None:
        raise ValueError("clip must have a causal text tower pooled at the end token ('argmax')")
    if clip.visual.pool_type != 'tok' or clip.visual.attn_pool is not None:
        raise ValueError("clip must have an image tower pooled at its class token ('tok')")


def encode_prompted_image(
    clip: open_clip.CLIP, images: Tensor, prompts: Sequence[Tensor]
) -> Tensor:
    """Image features with prompts behind the patches; see :class:`hyper_mm.layers.Prompts`.

    Args:
        clip: The model.
        images: Normalised images ``(B, 3, H, W)``.
        prompts: Tensors ``(n, d_image)`` of the first blocks, or none.

    Returns:
        ``(B, D)``, not normalised.

    Raises:
        ValueError: If the images do not have the size of the tower.
    """
    visual = clip.visual
    if images.shape[-2:] != visual.image_size:
        raise ValueError(
            f'images must have the size {tuple(visual.image_size)} of the tower, got '
            f'{tuple(images.shape[-2:])}'
        )
    images = images.to(visual.conv1.weight.dtype)
    if not prompts:
        return clip.encode_image(images)
    x = visual._embeds(images)
    tokens = x.shape[1]
    first = visual.ln_pre(prompts[0].to(x.dtype))  # a norm of single tokens: before or after is one
    x = torch.cat([x, first.expand(len(x), -1, -1)], 1)
    for index, block in enumerate(visual.transformer.resblocks):
        if 0 < index < len(prompts):
            x = torch.cat([x[:, :tokens], prompts[index].to(x.dtype).expand(len(x), -1, -1)], 1)
        x = block(x)
    return visual._pool(x)[0] @ visual.proj


def encode_prompted_text(
    clip: open_clip.CLIP,
    tokens: Tensor,
    prompts: Sequence[Tensor],
    chunk: int | None = None,
    checkpoint: bool = False,
) -> Tensor:
    """Text features with prompts behind the start token; see :class:`hyper_mm.layers.Prompts`.

    Positions after the last end token are left out: the tower is causal.

    Args:
        clip: The model.
        tokens: Tokens ``(C, context_length)`` whose entries 1 to n are replaced.
        prompts: Tensors ``(n, d_text)`` of the first blocks, at least one.
        chunk: Classes at a time; None: all at once.
        checkpoint: Whether to keep no activations and compute them again in the backward pass, so
            that the memory is that of one chunk.

    Returns:
        ``(C, D)``, not normalised.
    """
    features = []
    for part in tokens.split(chunk or max(len(tokens), 1)):
        if checkpoint and torch.is_grad_enabled():
            found = checkpoint_activations(_encode, clip, part, *prompts, use_reentrant=False)
        else:
            found = _encode(clip, part, *prompts)
        features.append(found)
    return torch.cat(features)


def _encode(clip: open_clip.CLIP, tokens: Tensor, *prompts: Tensor) -> Tensor:
    ends = tokens.argmax(-1)  # the end token has the highest id
    length = int(ends.max()) + 1
    dtype = clip.transformer.get_cast_dtype()
    x = _replaced(clip.token_embedding(tokens[:, :length]).to(dtype), prompts[0])
    x = x + clip.positional_embedding[:length].to(dtype)
    mask = clip.attn_mask[:length, :length]
    for index, block in enumerate(clip.transformer.resblocks):
        if 0 < index < len(prompts):
            x = _replaced(x, prompts[index])
        x = block(x, attn_mask=mask)
    x = clip.ln_final(x[torch.arange(len(x), device=x.device), ends])
    projection = clip.text_projection
    return projection(x) if isinstance(projection, torch.nn.Module) else x @ projection


def _replaced(x: Tensor, prompt: Tensor) -> Tensor:
    prompt = prompt.to(x.dtype).expand(len(x), -1, -1)
    return torch.cat([x[:, :1], prompt, x[:, 1 + prompt.shape[1] :]], 1)
