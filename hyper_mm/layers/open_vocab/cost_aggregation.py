"""CAT-Seg's aggregation of the cosines between pixels and class names into a logit map a class.

Source: Cho et al., CAT-Seg: Cost Aggregation for Open-Vocabulary Semantic Segmentation (CVPR 2024),
in the form of its official code for that conference, which HyperCLIP uses unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as checkpoint_activations

from ...checks import check_count
from .cost_attention import ClassAttention, WindowBlock

MASKED = -100.0
"""Logit of the classes that are left out."""


class AggregationLayer(nn.Module):
    """A pair of window blocks, the second shifted, and attention over classes.

    Args:
        dim: Channels C of the cost.
        appearance_dim: Channels of the guidance by the image.
        text_dim: Channels of the guidance by the texts.
        num_heads: Heads.
        window: Side of a window.
        pad_len: Classes to pad to.
    """

    def __init__(
        self,
        dim: int,
        appearance_dim: int,
        text_dim: int,
        num_heads: int,
        window: int,
        pad_len: int,
    ):
        super().__init__()
        self.norm = nn.LayerNorm(appearance_dim)
        self.windows = nn.ModuleList(
            WindowBlock(dim, appearance_dim, num_heads, window, shifted)
            for shifted in (False, True)
        )
        self.classes = ClassAttention(dim, text_dim, num_heads, pad_len)

    def spatial(self, x: Tensor, appearance: Tensor) -> Tensor:
        """Applies the window blocks, which treat every class by itself.

        Args:
            x: Cost ``(B, T, H, W, C)``.
            appearance: Guidance ``(B, 1, H, W, G)``.

        Returns:
            Cost of the same shape.
        """
        appearance = self.norm(appearance)
        for block in self.windows:
            x = block(x, appearance)
        return x


class UpsamplingBlock(nn.Module):
    """Doubles the resolution of the maps of all classes, guided by the image.

    The first convolution takes both; it is the sum of one of the maps and one of the guidance, and
    the latter is computed once for all classes.

    Args:
        in_dim: Channels of the maps.
        out_dim: Channels of the result, a multiple of 16.
        guidance_dim: Channels of the guidance, fewer than ``in_dim``.
    """

    def __init__(self, in_dim: int, out_dim: int, guidance_dim: int):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_dim, in_dim - guidance_dim, kernel_size=2, stride=2)
        self.conv1 = nn.Conv2d(in_dim, out_dim, kernel_size=3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(out_dim // 16, out_dim)
        self.conv2 = nn.Conv2d(out_dim, out_dim, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(out_dim // 16, out_dim)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """Computes the maps at twice the resolution.

        Args:
            x: Maps ``(B * T, C, H, W)``, classes of an image side by side.
            guidance: ``(B, G, 2 H, 2 W)``.

        Returns:
            Maps ``(B * T, out_dim, 2 H, 2 W)``.
        """
        x = self.up(x)  # (B * T, C - G, 2 H, 2 W)
        # conv([x; g]) = conv_x(x) + conv_g(g): the guidance is the same for all T classes of an
        # image, so its part is computed B times in place of B * T.
        own, shared = self.conv1.weight.split((x.shape[1], guidance.shape[1]), 1)
        shared = F.conv2d(guidance, shared, padding=1).unsqueeze(1)  # (B, 1, out, 2 H, 2 W)
        x = F.conv2d(x, own, padding=1).unflatten(0, (len(guidance), -1))  # (B, T, out, 2 H, 2 W)
        x = self.norm1((x + shared).flatten(0, 1)).relu_()
        return self.norm2(self.conv2(x)).relu_()


class CostDecoder(nn.Module):
    """Two upsampling blocks and a convolution to one logit a position.

    Args:
        dim: Channels C of the cost.
        dims: Channels after each block.
        guidance_dims: Channels of the guidance of each block.
    """

    def __init__(self, dim: int, dims: Sequence[int], guidance_dims: Sequence[int]):
        super().__init__()
        self.blocks = nn.ModuleList(
            UpsamplingBlock(a, b, g) for a, b, g in zip((dim, *dims), dims, guidance_dims)
        )
        self.head = nn.Conv2d(dims[-1], 1, kernel_size=3, padding=1)

    def forward(self, x: Tensor, *guidance: Tensor) -> Tensor:
        """Computes the logits.

        Args:
            x: Cost ``(B, T, H, W, C)``.
            *guidance: Maps ``(B, G, 2 H, 2 W)`` and ``(B, G', 4 H, 4 W)``.

        Returns:
            Logits ``(B, T, 4 H, 4 W)``.
        """
        shape = x.shape[:2]
        x = x.flatten(0, 1).permute(0, 3, 1, 2).contiguous()  # (B * T, C, H, W) for convolutions
        for block, guide in zip(self.blocks, guidance):
            x = block(x, guide)
        return self.head(x).squeeze(1).unflatten(0, shape)


class CostAggregator(nn.Module):
    r"""Refines the cosines of pixels and class names into logits.

    .. math:: c_{tp} = \cos(v_p, e_t),\qquad
        F^0 = \operatorname{Conv}_{7 \times 7}(c),\qquad
        F^{l+1} = \operatorname{Classes}_l(\operatorname{Windows}_l(F^l; v); e),\qquad
        \text{logits} = \operatorname{Decoder}(F^L)

    With more than ``pad_len`` classes, each image keeps the ``pad_len`` whose largest cosine over
    its pixels is highest; the others get the logit -100.

    Args:
        text_dim: Width D of the text features, and of the image features.
        appearance_dim: Channels of the first guidance map.
        guidance_dims: Channels of the two guidance maps of the decoder.
        dim: Channels of the cost.
        projected_dim: Channels of appearance and text guidance inside.
        decoder_dims: Channels of the decoder.
        decoder_guidance_dims: Channels of the decoder's guidance inside.
        num_prompts: Prompts P of a class.
        num_layers: Layers.
        num_heads: Heads.
        window: Side of an attention window, in positions.
        pad_len: Classes to pad to, and the most that are kept; 0 for neither. (With as many classes
            or more, the padding has no gradient: DDP needs ``find_unused_parameters``.)
        train_pooling: Pooling before attention over classes in training.
        test_pooling: The same in evaluation.
        class_chunk: Classes at a time in the parts that treat every class by itself (windows and
            decoder); all if None. A few fit into the caches of a processor, which is faster.
        checkpoint: Keep no activations of those parts and compute them again in the backward pass.

    Raises:
        ValueError: For a width that its heads or group norms do not divide, or numbers out of
            their range.
    """

    def __init__(
        self,
        text_dim: int = 512,
        appearance_dim: int = 512,
        guidance_dims: Sequence[int] = (256, 128),
        dim: int = 128,
        projected_dim: int = 128,
        decoder_dims: Sequence[int] = (64, 32),
        decoder_guidance_dims: Sequence[int] = (32, 16),
        num_prompts: int = 1,
        num_layers: int = 2,
        num_heads: int = 4,
        window: int = 12,
        pad_len: int = 256,
        train_pooling: tuple[int, int] = (2, 2),
        test_pooling: tuple[int, int] = (1, 1),
        class_chunk: int | None = 16,
        checkpoint: bool = False,
    ):
        super().__init__()
        check_count(
            1, num_prompts=num_prompts, num_layers=num_layers, num_heads=num_heads, window=window
        )
        check_count(0, pad_len=pad_len)
        if class_chunk is not None:
            check_count(1, class_chunk=class_chunk)
        if dim % num_heads:
            raise ValueError(f'num_heads must divide dim {dim}, got {num_heads}')
        for name, pair in (
            ('guidance_dims', guidance_dims),
            ('decoder_dims', decoder_dims),
            ('decoder_guidance_dims', decoder_guidance_dims),
            ('train_pooling', train_pooling),
            ('test_pooling', test_pooling),
        ):
            if not isinstance(pair, Sequence) or len(pair) != 2 or min(pair) < 1:
                raise ValueError(f'{name} must be two positive numbers, got {pair}')
        if any(d % 16 for d in decoder_dims):
            raise ValueError(f'decoder_dims must be multiples of 16, got {decoder_dims}')
        if any(g >= d for g, d in zip(decoder_guidance_dims, (dim, *decoder_dims))):
            raise ValueError(
                f'decoder_guidance_dims must be below dim and decoder_dims[0], '
                f'{(dim, decoder_dims[0])}, got {decoder_guidance_dims}'
            )
        self.num_prompts = num_prompts
        self.pad_len = pad_len
        self.train_pooling = tuple(train_pooling)
        self.test_pooling = tuple(test_pooling)
        self.class_chunk = class_chunk
        self.checkpoint = checkpoint
        self.embed = nn.Conv2d(num_prompts, dim, kernel_size=7, padding=3)
        self.appearance_proj = conv3x3(appearance_dim, projected_dim)
        self.text_proj = nn.Sequential(nn.Linear(text_dim, projected_dim), nn.ReLU())
        self.guidance_projs = nn.ModuleList(
            conv3x3(a, b) for a, b in zip(guidance_dims, decoder_guidance_dims)
        )
        self.layers = nn.ModuleList(
            AggregationLayer(dim, projected_dim, projected_dim, num_heads, window, pad_len)
            for _ in range(num_layers)
        )
        self.decoder = CostDecoder(dim, decoder_dims, decoder_guidance_dims)

    def forward(self, image: Tensor, text: Tensor, guidance: Sequence[Tensor]) -> Tensor:
        """Computes the logits of every class.

        Args:
            image: Dense image features ``(B, D, H, W)``.
            text: Text features ``(T, P, D)``, or ``(B, T, P, D)``.
            guidance: Three maps: of the appearance ``(B, C, H, W)``, and of the decoder
                ``(B, C', 2 H, 2 W)`` and ``(B, C'', 4 H, 4 W)``.

        Returns:
            Logits ``(B, T, 4 H, 4 W)``.

        Raises:
            ValueError: For shapes that do not fit.
        """
        text = self._check(image, text, guidance)
        cost = torch.einsum(
            'bdhw,btpd->btphw', F.normalize(image, dim=1), F.normalize(text, dim=-1)
        )
        text = F.normalize(text.mean(2), dim=-1)  # (B, T, D)
        total, kept = cost.shape[1], None
        if 0 < self.pad_len < total:
            # Attention over classes is trained with pad_len of them, so more are not shown to it.
            # Which ones stay, (B, pad_len), is a choice by image, without gradient.
            kept = cost.detach().amax((2, 3, 4)).topk(self.pad_len, sorted=False).indices
            cost = cost.gather(1, kept[..., None, None, None].expand(-1, -1, *cost.shape[2:]))
            text = text.gather(1, kept.unsqueeze(-1).expand(-1, -1, text.shape[-1]))
        appearance, *maps = guidance
        # Guidance broadcasts with the cost (B, T, H, W, C) and is never expanded to it:
        appearance = self.appearance_proj(appearance).permute(0, 2, 3, 1).unsqueeze(1)  # T = 1
        text = self.text_proj(text)[:, :, None, None]  # H = W = 1
        maps = [project(m) for project, m in zip(self.guidance_projs, maps)]
        x = self._each_class(self._embed, cost)  # (B, T, P, H, W) -> (B, T, H, W, C)
        pooling = self.train_pooling if self.training else self.test_pooling
        for layer in cast('Iterable[AggregationLayer]', self.layers):
            x = self._each_class(layer.spatial, x, appearance)
            x = layer.classes(x, text, pooling)
        logits = self._each_class(self.decoder, x, *maps)
        if kept is None:
            return logits
        size = logits.shape[2:]
        out = logits.new_full((len(logits), total, *size), MASKED)
        return out.scatter(1, kept[..., None, None].expand(-1, -1, *size), logits)

    def _embed(self, cost: Tensor) -> Tensor:
        """Cost ``(B, T, H, W, C)`` of cosines ``(B, T, P, H, W)``."""
        x = self.embed(cost.flatten(0, 1))
        return x.permute(0, 2, 3, 1).contiguous().unflatten(0, cost.shape[:2])

    def _each_class(self, function: Callable, x: Tensor, *shared: Tensor) -> Tensor:
        """Applies a function that treats every class by itself, a few classes at a time.

        Args:
            function: Maps ``(B, t, ...)`` and the shared tensors to ``(B, t, ...)``, for any t.
            x: ``(B, T, ...)``.
            *shared: Guidance of the images, without a dimension of classes.

        Returns:
            ``(B, T, ...)``.
        """
        again = self.checkpoint and torch.is_grad_enabled()
        parts = []
        for part in x.split(self.class_chunk or x.shape[1], 1):
            if again:
                part = checkpoint_activations(function, part, *shared, use_reentrant=False)
            else:
                part = function(part, *shared)
            parts.append(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _check(self, image: Tensor, text: Tensor, guidance: Sequence[Tensor]) -> Tensor:
        """Returns the text features ``(B, T, P, D)``."""
        if image.ndim != 4:
            raise ValueError(f'image must be (B, D, H, W), got {tuple(image.shape)}')
        batch, dim, height, width = image.shape
        shape = tuple(text.shape)
        if text.ndim == 3:
            text = text.expand(batch, *shape)
        wanted = (batch, self.num_prompts, dim)
        if text.ndim != 4 or (text.shape[0], *text.shape[2:]) != wanted or not text.shape[1]:
            raise ValueError(
                f'text must be (T, {self.num_prompts}, {dim}) or ({batch}, T, {self.num_prompts}, '
                f'{dim}) with at least one class, got {shape}'
            )
        projections = cast('list[nn.Sequential]', [self.appearance_proj, *self.guidance_projs])
        channels = [cast(nn.Conv2d, project[0]).in_channels for project in projections]
        shapes = [(batch, c, height * k, width * k) for c, k in zip(channels, (1, 2, 4))]
        found = [tuple(m.shape) for m in guidance]
        if found != shapes:
            raise ValueError(f'guidance must be three maps of shapes {shapes}, got {found}')
        return text


def conv3x3(in_dim: int, out_dim: int) -> nn.Sequential:
    """Convolution and ReLU."""
    return nn.Sequential(nn.Conv2d(in_dim, out_dim, kernel_size=3, padding=1), nn.ReLU())
