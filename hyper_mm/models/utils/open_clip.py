"""CLIP models of open_clip: building, tokens without truncation, features in bounded memory."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

import open_clip
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.utils.checkpoint import checkpoint as checkpoint_activations

from hyper_mm.checks import check_at_least
from hyper_mm.models.utils.lite_clip import LITE_CLIP, PREFIX, build_lite_clip
from hyper_mm.models.utils.text_tokenizer import CONTEXT_LENGTH, TextTokenizer
from hyper_mm.near_misses import suggestion

MEAN = (122.7709383, 116.7460125, 104.09373615)
"""Mean of CLIP's training images: red, green, blue, of 255."""
STD = (68.5005327, 66.6321579, 70.3231630)
"""Their standard deviation."""

_LOW_PRECISION = {'fp16': torch.float16, 'bf16': torch.bfloat16}


def build_open_clip(
    model: str | dict,
    pretrained: str | None = None,
    image_size: int | None = None,
    precision: str = 'fp32',
) -> open_clip.CLIP | open_clip.CustomTextCLIP:
    """Builds a CLIP model of an image and a text tower, of any kind that open_clip has.

    Args:
        model: ``'lite-clip-b0'`` or ``'lite-clip-b2'``, whose weights packages carry (see
            :mod:`hyper_mm.models.utils.lite_clip`); or the name of an open_clip architecture (with
            public weights it gets the activation that they were trained with: QuickGELU for
            OpenAI's); or a dict of its model config (``embed_dim``, ``vision_cfg``, ``text_cfg``,
            ``quick_gelu``), for random towers of any size.
        pretrained: Tag of public weights (``'openai'``; only with a name), path of a checkpoint, or
            None for random weights; '' is None, as ``--cfg-options model.clip.pretrained=`` has it.
        image_size: Side of the images in pixels; the position embedding of the weights is resized
            (bicubic) where it differs from theirs. None: that of the architecture.
        precision: ``'fp32'``, or ``'fp16'`` or ``'bf16'`` for weights of half precision with
            float32 layer norms.

    Returns:
        The model, on the CPU, in training mode; ``tokenizer`` is its own
        (:class:`hyper_mm.models.utils.text_tokenizer.TextTokenizer`).

    Raises:
        TypeError: If ``model`` is neither a name nor a dict.
        ValueError: If there is no such architecture, weights or precision, or the model has other
            parts than two towers, such as CoCa's decoder.
        ModuleNotFoundError: If a package of LiteCLIP is not installed.
    """
    if precision != 'fp32' and precision not in _LOW_PRECISION:
        raise ValueError(f"precision must be 'fp32', 'fp16' or 'bf16', got {precision!r}")
    pretrained = pretrained or None
    if isinstance(model, dict):
        clip = _from_dict(model, pretrained, image_size, precision)
    elif isinstance(model, str) and model.lower().startswith(PREFIX):
        if precision != 'fp32':
            raise ValueError(f"precision must be 'fp32' for {model}, got {precision!r}")
        clip = build_lite_clip(model, image_size)
        if pretrained is not None:
            _load_file(clip, pretrained)
    elif isinstance(model, str):
        _check_name(model, pretrained)
        clip = open_clip.create_model(
            model,
            pretrained=pretrained,
            precision=precision,
            force_image_size=image_size,
            force_quick_gelu=needs_quick_gelu(model, pretrained),
        )
    else:
        raise TypeError(f'model must be a name or a dict, got {type(model).__name__}')
    if type(clip) not in (open_clip.CLIP, open_clip.CustomTextCLIP):
        raise ValueError(
            f'model must be a CLIP of two towers, got {model!r}, a {type(clip).__name__}'
        )
    if not hasattr(clip, 'tokenizer'):
        free = takes_any_length(clip)
        clip.tokenizer = TextTokenizer(model, clip.vocab_size, clip.context_length, not free)
    return clip


def takes_any_length(clip: open_clip.CLIP | open_clip.CustomTextCLIP) -> bool:
    """Whether the text tower is one of Hugging Face, whose rows need not be padded to a length."""
    return isinstance(getattr(clip, 'text', None), HFTextEncoder)


def embed_dim(clip: open_clip.CLIP | open_clip.CustomTextCLIP) -> int:
    """Width of the features of a model."""
    return clip.text.output_dim if hasattr(clip, 'text') else clip.visual.output_dim


def image_size(clip: open_clip.CLIP | open_clip.CustomTextCLIP) -> tuple[int, int]:
    """Height and width of the images that a model was trained with, in pixels."""
    size = clip.visual.image_size
    return (size, size) if isinstance(size, int) else tuple(size)


def pixel_range(
    clip: open_clip.CLIP | open_clip.CustomTextCLIP,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that a model takes its pixels by, of 255: its own, or CLIP's."""
    own = [getattr(clip.visual, key, None) for key in ('image_mean', 'image_std')]
    if None in own:
        return MEAN, STD
    mean, std = (tuple(255 * x for x in values) for values in own)
    return mean, std


def needs_quick_gelu(model: str, pretrained: str | None) -> bool:
    """Whether public weights were trained with QuickGELU; open_clip only warns of a mismatch.

    Args:
        model: Name of an architecture.
        pretrained: Tag of its weights, a path, or None.
    """
    tag = open_clip.get_pretrained_cfg(model.replace('/', '-'), pretrained) if pretrained else None
    return bool(tag and tag.get('quick_gelu'))


def _check_name(name: str, pretrained: str | None) -> None:
    """Raises ValueError for what open_clip does not know."""
    if ':' not in name and open_clip.get_model_config(name.replace('/', '-')) is None:
        known = [*LITE_CLIP, *open_clip.list_models()]
        raise ValueError(
            f'model {name!r} is not known to open_clip{suggestion(name, known) or ";"} see '
            'open_clip.list_models()'
        )
    if pretrained is None or os.path.isfile(pretrained):
        return
    tags = open_clip.list_pretrained_tags_by_model(name.replace('/', '-'))
    if pretrained not in tags:
        raise ValueError(
            f'pretrained must be a file or one of {tags} for {name}, got {pretrained!r}'
        )


def _from_dict(
    config: dict, pretrained: str | None, image_size: int | None, precision: str
) -> open_clip.CLIP | open_clip.CustomTextCLIP:
    """A model from its config."""
    missing = {'embed_dim', 'vision_cfg', 'text_cfg'} - config.keys()
    if missing:
        raise ValueError(f'model lacks {sorted(missing)}, got the keys {sorted(config)}')
    config = copy.deepcopy(dict(config))
    for tower in ('vision_cfg', 'text_cfg'):
        config[tower] = dict(config[tower])
    if image_size is not None:
        config['vision_cfg']['image_size'] = image_size
    dtype = _LOW_PRECISION.get(precision)
    custom = config.pop('custom_text', False) or 'hf_model_name' in config['text_cfg']
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    clip = kind(**config, cast_dtype=dtype)
    if dtype is not None:
        open_clip.convert_weights_to_lp(clip, dtype)
    if pretrained is not None:
        _load_file(clip, pretrained)
    return clip


def _load_file(clip: open_clip.CLIP | open_clip.CustomTextCLIP, path: str) -> None:
    """Loads weights of a file; there are no tags here."""
    if not os.path.isfile(path):
        raise ValueError(f'pretrained must be a file for this model, got {path!r}')
    open_clip.load_checkpoint(clip, path)


def tokenize(
    texts: Sequence[str], context_length: int = CONTEXT_LENGTH, allow_empty: bool = False
) -> torch.LongTensor:
    """Tokens of OpenAI's byte-pair encoding; models have theirs as ``clip.tokenizer``.

    Args:
        texts: The texts, N of them.
        context_length: Length of the rows; the rest of each is zeros.
        allow_empty: Whether a text may be empty (start and end only).

    Returns:
        Tokens ``(N, context_length)``.

    Raises:
        TypeError: If ``texts`` is one string, or holds something else than strings.
        ValueError: If a text is empty, or has more tokens than fit.
    """
    return TextTokenizer()(texts, context_length, allow_empty)


def encode_text(
    clip: open_clip.CLIP,
    tokens: Tensor,
    chunk: int | None = None,
    checkpoint: bool = False,
    prompts: Sequence[Tensor] = (),
) -> Tensor:
    """Computes the text features of ``clip.encode_text``, faster and in bounded memory.

    A causal tower's positions after the end token cannot change its feature, and padding is masked
    in towers of Hugging Face: both are left out, texts of about one length at a time. Prompts of
    ten tokens so cost about a seventh of the full context.

    Args:
        clip: The model.
        tokens: Tokens ``(N, context_length)``, or of any length for a tower of Hugging Face.
        chunk: Texts at a time; None: all at once.
        checkpoint: Whether to keep no activations and compute them again in the backward pass, so
            that the memory is that of one chunk. Without gradients, and where all texts are one
            chunk of the given size, it changes nothing.
        prompts: Vectors ``(n, d_text)`` of the first blocks, in the place of the tokens 1 to n;
            see :class:`hyper_mm.layers.Prompts`.

    Returns:
        Features ``(N, D)``, not normalized.

    Raises:
        ValueError: If the tokens do not have the tower's length, ``chunk`` is not positive, or the
            tower cannot take prompts.
    """
    length, free = clip.context_length, takes_any_length(clip)
    if tokens.ndim != 2 or (tokens.shape[1] > length if free else tokens.shape[1] != length):
        wanted = f'at most {length}' if free else length
        raise ValueError(f'tokens must have the shape (N, {wanted}), got {tuple(tokens.shape)}')
    if chunk is not None:
        check_at_least(1, chunk=chunk)
    if prompts:
        check_prompted(clip, 'text')
    most = chunk or max(len(tokens), 1)
    groups = _of_one_length(_lengths(clip, tokens), most, more=tokens.device.type == 'cpu')
    again = checkpoint and torch.is_grad_enabled() and (chunk is None or len(tokens) > chunk)
    features = []
    for part in (tokens[rows] for rows in groups):
        if again:
            encoded = checkpoint_activations(_encode, clip, part, *prompts, use_reentrant=False)
        else:
            encoded = _encode(clip, part, *prompts)
        features.append(encoded)
    found = torch.cat(features)
    order = list(chain.from_iterable(groups))
    if order == sorted(order):
        return found
    places = torch.tensor(order, device=found.device).argsort()
    return found[places]


def _lengths(clip: open_clip.CLIP, tokens: Tensor) -> list[int]:
    """Positions of each text that count."""
    if hasattr(clip, 'text'):
        if not takes_any_length(clip):
            return [tokens.shape[1]] * len(tokens)
        used = tokens != clip.text.config.pad_token_id
        return (used * torch.arange(1, 1 + used.shape[1], device=used.device)).amax(1).tolist()
    if clip.attn_mask is None or clip.text_pool_type != 'argmax':
        return [tokens.shape[1]] * len(tokens)
    return (tokens.argmax(dim=-1) + 1).tolist()  # the end token has the highest id


def _of_one_length(lengths: list[int], most: int, more: bool) -> list[list[int]]:
    """Rows in groups of at most so many, of similar lengths where that leaves out much.

    Args:
        lengths: Positions of each row that count.
        most: Largest group.
        more: Whether there may be more groups than needed, each of which costs a pass through the
            tower: then one begins where texts are longer by a quarter than its first.

    Returns:
        The rows as they come, if less than a tenth of all positions would be left out.
    """
    rows = list(range(len(lengths)))
    plain = [rows[i : i + most] for i in range(0, len(rows), most)] or [[]]
    groups: list[list[int]] = [[]]
    for row in sorted(rows, key=lambda row: lengths[row]):
        last = groups[-1]
        if last and (len(last) == most or (more and lengths[row] > 1.25 * lengths[last[0]])):
            groups.append([])
        groups[-1].append(row)

    def positions(parts: list[list[int]]) -> int:
        return sum(len(part) * max(lengths[row] for row in part) for part in parts if part)

    return groups if positions(groups) < 0.9 * positions(plain) else plain


def _encode(clip: open_clip.CLIP, tokens: Tensor, *prompts: Tensor) -> Tensor:
    """Features of some texts, without the positions after the last end token."""
    if hasattr(clip, 'text'):
        if takes_any_length(clip) and len(tokens):
            used = (tokens != clip.text.config.pad_token_id).any(0).nonzero()
            tokens = tokens[:, : int(used.max()) + 1 if len(used) else 1]
            if prompts:
                return _encode_bert(clip.text, tokens, prompts)
        return clip.encode_text(tokens)
    if clip.attn_mask is None or clip.text_pool_type != 'argmax' or not len(tokens):
        return clip.encode_text(tokens)
    ends = tokens.argmax(dim=-1)  # the end token has the highest id
    length = int(ends.max()) + 1
    dtype = clip.transformer.get_cast_dtype()
    x = clip.token_embedding(tokens[:, :length]).to(dtype)
    if prompts:
        x = _replace(x, prompts[0])
    x = x + clip.positional_embedding[:length].to(dtype)
    mask = clip.attn_mask[:length, :length]
    for index, block in enumerate(clip.transformer.resblocks):
        if 0 < index < len(prompts):
            x = _replace(x, prompts[index])
        x = block(x, attn_mask=mask)
    x = clip.ln_final(x[torch.arange(len(x), device=x.device), ends])
    projection = clip.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, torch.nn.Module) else x @ projection


def _encode_bert(tower: HFTextEncoder, tokens: Tensor, prompts: Sequence[Tensor]) -> Tensor:
    """Features of texts by an encoder of Hugging Face whose first blocks have prompts."""
    mask = (tokens != tower.config.pad_token_id).long()
    words = tower.transformer.embeddings.word_embeddings(tokens)
    handles = [
        layer.register_forward_pre_hook(partial(_replace_entering, prompt=prompt))
        for layer, prompt in zip(tower.transformer.encoder.layer[1:], prompts[1:])
    ]
    try:
        found = tower.transformer(inputs_embeds=_replace(words, prompts[0]), attention_mask=mask)
    finally:
        for handle in handles:
            handle.remove()
    return tower.proj(tower.pooler(found, mask))


def _replace_entering(layer: torch.nn.Module, entering: tuple, prompt: Tensor) -> tuple:
    """What enters a block, with vectors in the place of the positions behind the first."""
    return (_replace(entering[0], prompt), *entering[1:])


def _replace(x: Tensor, prompt: Tensor) -> Tensor:
    """Puts vectors ``(n, d)`` in the place of the positions 1 to n of ``(N, L, d)``."""
    prompt = prompt.to(x.dtype).expand(len(x), -1, -1)
    return torch.cat([x[:, :1], prompt, x[:, 1 + prompt.shape[1] :]], 1)


def encode_image(clip: open_clip.CLIP, images: Tensor, prompts: Sequence[Tensor] = ()) -> Tensor:
    """Computes the image features of ``clip.encode_image``, or with prompts behind the patches.

    Args:
        clip: The model.
        images: Normalized images ``(B, 3, H, W)``.
        prompts: Vectors ``(n, d_image)`` of the first blocks; see
            :class:`hyper_mm.layers.Prompts`.

    Returns:
        Features ``(B, D)``, not normalized.

    Raises:
        ValueError: If the images do not have the size of the tower, or it cannot take prompts.
    """
    visual, size = clip.visual, image_size(clip)
    if tuple(images.shape[-2:]) != size:
        raise ValueError(
            f'images must have the size {size} of the tower, got {tuple(images.shape[-2:])}'
        )
    # of the convolution that takes them: embeddings and norms stay in float32
    stem = next(x for x in visual.modules() if isinstance(x, torch.nn.Conv2d))
    images = images.to(stem.weight.dtype)
    if not prompts:
        return clip.encode_image(images)
    check_prompted(clip, 'image')
    x = visual._embeds(images)
    tokens = x.shape[1]
    first = visual.ln_pre(prompts[0].to(x.dtype))  # a norm of single tokens: before or after is one
    x = torch.cat([x, first.expand(len(x), -1, -1)], 1)
    for index, block in enumerate(visual.transformer.resblocks):
        if 0 < index < len(prompts):
            x = torch.cat([x[:, :tokens], prompts[index].to(x.dtype).expand(len(x), -1, -1)], 1)
        x = block(x)
    return visual._pool(x)[0] @ visual.proj


def check_prompted(clip: open_clip.CLIP | open_clip.CustomTextCLIP, tower: str) -> None:
    """Checks that a tower can take prompts.

    Args:
        clip: The model.
        tower: ``'text'``: causal towers of :class:`open_clip.CLIP`, and encoders of Hugging Face
            with a start token (BERT, RoBERTa, XLM-RoBERTa); or ``'image'``: vision transformers of
            open_clip that are pooled at the class token.

    Raises:
        ValueError: If it cannot.
    """
    if tower == 'image':
        visual = clip.visual
        if not isinstance(visual, VisionTransformer):
            raise ValueError(
                'clip must have a vision transformer of open_clip to learn image prompts, got '
                f'{type(visual).__name__}, whose images have no tokens to put them behind: take '
                "prompts of the texts alone, type='CoOp'"
            )
        if visual.pool_type != 'tok' or visual.attn_pool is not None:
            raise ValueError("clip must have an image tower pooled at its class token ('tok')")
        return
    if takes_any_length(clip):
        encoder = clip.text.transformer
        if not hasattr(getattr(encoder, 'embeddings', None), 'word_embeddings') or not hasattr(
            getattr(encoder, 'encoder', None), 'layer'
        ):
            raise ValueError(
                'clip must have a text tower like BERT to learn text prompts, with a start token '
                f'and a list of layers, got {type(encoder).__name__}'
            )
    elif type(clip) is not open_clip.CLIP:
        raise ValueError(
            'clip must have the text tower of open_clip.CLIP or one of Hugging Face to learn text '
            f'prompts, got {type(clip).__name__} with {type(clip.text).__name__}'
        )
    elif clip.text_pool_type != 'argmax' or clip.attn_mask is None:
        raise ValueError("clip must have a causal text tower pooled at the end token ('argmax')")


class TowerShape(NamedTuple):
    """What prompts of a tower are made for.

    Attributes:
        width: Width of its tokens.
        depth: Number of its blocks.
    """

    width: int
    depth: int


def tower_shape(clip: open_clip.CLIP | open_clip.CustomTextCLIP, tower: str) -> TowerShape:
    """Width and depth of a tower, ``'text'`` or ``'image'``, that :func:`check_prompted` passes."""
    if tower == 'image':
        return TowerShape(clip.visual.conv1.out_channels, len(clip.visual.transformer.resblocks))
    words = word_embedding(clip)
    if takes_any_length(clip):
        return TowerShape(words.embedding_dim, len(clip.text.transformer.encoder.layer))
    return TowerShape(words.embedding_dim, len(clip.transformer.resblocks))


def word_embedding(clip: open_clip.CLIP | open_clip.CustomTextCLIP) -> torch.nn.Embedding:
    """Table of token embeddings of a text tower that :func:`check_prompted` passes."""
    if takes_any_length(clip):
        return clip.text.transformer.embeddings.word_embeddings
    return clip.token_embedding
