"""Attention within cost maps: over the positions of a class, and over the classes of a position.

A cost tensor is ``(B, T, H, W, C)``: images, classes, rows, columns, channels. Queries and keys are
made of it and of guidance, which belongs to the image or to the class alone; a linear map of both
is the sum of two linear maps, so guidance is projected once and not once for each map.

Source: Cho et al., CAT-Seg: Cost Aggregation for Open-Vocabulary Semantic Segmentation (CVPR 2024).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyper_mm.ops.inputs import upcast


class GuidedProjection(nn.Module):
    """Queries and keys of cost and guidance, and values of the cost alone.

    ``q = W_q [x; g] + b_q``, ``k = W_k [x; g] + b_k``, ``v = W_v x + b_v``.

    Args:
        dim: Channels C.
        guidance_dim: Channels of the guidance.
    """

    def __init__(self, dim: int, guidance_dim: int):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.guidance = nn.Linear(guidance_dim, 2 * dim, bias=False)

    def forward(self, x: Tensor, guidance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Computes queries, keys and values.

        Args:
            x: ``(..., C)``.
            guidance: ``(..., G)``, which broadcasts with it.

        Returns:
            Three tensors ``(..., C)``.
        """
        qk, v = self.qkv(x).split((2 * x.shape[-1], x.shape[-1]), -1)
        q, k = (qk + self.guidance(guidance)).chunk(2, -1)
        return q, k, v


def mlp(dim: int, activation: type[nn.Module]) -> nn.Sequential:
    """Two linear layers, four times as wide between them."""
    return nn.Sequential(nn.Linear(dim, 4 * dim), activation(), nn.Linear(4 * dim, dim))


class WindowBlock(nn.Module):
    """Attention within windows of a map, guided by the image, and MLP; pre-norm.

    Swin rolls and masks a map for shifted windows. Here the map is cut where the masks would
    separate it, which is the same attention by smaller matrices, on maps of any size.

    Args:
        dim: Channels C.
        guidance_dim: Channels of the guidance.
        num_heads: Heads.
        window: Side of a window.
        shifted: Begin half a window earlier.
    """

    def __init__(self, dim: int, guidance_dim: int, num_heads: int, window: int, shifted: bool):
        super().__init__()
        self.num_heads = num_heads
        self.window = window
        self.shifted = shifted
        self.norm1 = nn.LayerNorm(dim)
        self.project = GuidedProjection(dim, guidance_dim)
        self.out_proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp(dim, nn.GELU)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """Refines the maps of all classes.

        Args:
            x: Cost ``(B, T, H, W, C)``.
            guidance: Guidance of the images ``(B, 1, H, W, G)``.

        Returns:
            Cost of the same shape.
        """
        q, k, v = self.project(self.norm1(x), guidance)
        x = x + self.out_proj(self._attend(q, k, v))
        return x + self.mlp(self.norm2(x))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention within the windows of maps ``(B, T, H, W, C)``, window by window."""
        height, width = q.shape[2:4]
        rows, columns = self._cuts(height, width), self._cuts(width, height)
        parts = [x.split(rows, 2) for x in (q, k, v)]
        bands = [
            torch.cat([self._window(*w) for w in zip(*(b.split(columns, 3) for b in band))], 3)
            for band in zip(*parts)
        ]
        return torch.cat(bands, 2)

    def _cuts(self, length: int, other: int) -> list[int]:
        """Lengths of the windows along one side; a short map is one window, never shifted."""
        shift = self.window // 2 if self.shifted and min(length, other) > self.window else 0
        first = [shift] if shift else []
        rest = length - shift
        last = [rest % self.window] if rest % self.window else []
        return first + [self.window] * (rest // self.window) + last

    def _window(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention among the positions of one window ``(B, T, h, w, C)``."""
        shape = q.shape
        # images and classes are the batch: (B * T, heads, h w, C / heads)
        q, k, v = (
            x.flatten(2, 3).flatten(0, 1).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x in (q, k, v)
        )
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(shape)


class ClassAttention(nn.Module):
    r"""Linear attention over the classes at every position, guided by the texts, and MLP.

    With :math:`\varphi(x) = \operatorname{elu}(x) + 1`,

    .. math:: o_t = \frac{\varphi(q_t)^\top \sum_s \varphi(k_s) v_s^\top}
        {\varphi(q_t)^\top \sum_s \varphi(k_s)}

    The maps are pooled first and the result is scaled up again. Where there are fewer than
    ``pad_len`` classes, learned padding makes up for them; its copies are all alike and only enter
    the sums, so one copy is computed and multiplied by their number.

    Args:
        dim: Channels C.
        guidance_dim: Channels of the guidance.
        num_heads: Heads.
        pad_len: Classes to pad to; 0 for no padding.
    """

    def __init__(self, dim: int, guidance_dim: int, num_heads: int, pad_len: int):
        super().__init__()
        self.num_heads = num_heads
        self.pad_len = pad_len
        self.norm1 = nn.LayerNorm(dim)
        self.project = GuidedProjection(dim, guidance_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp(dim, nn.ReLU)
        if pad_len:
            self.padding = nn.Parameter(torch.zeros(dim))
            self.padding_guidance = nn.Parameter(torch.zeros(guidance_dim))

    def forward(self, x: Tensor, guidance: Tensor, pooling: tuple[int, int]) -> Tensor:
        """Computes the cost after attention over the classes.

        Args:
            x: Cost ``(B, T, H, W, C)``.
            guidance: Guidance of the classes ``(B, T, 1, 1, G)``.
            pooling: Height and width of the pooled cells; no larger than the map.

        Returns:
            Cost of the same shape.
        """
        size = x.shape[2:4]
        pooling = min(pooling[0], size[0]), min(pooling[1], size[1])
        # The residual x is added at full resolution, so pooling blurs the update alone.
        pooled = x if pooling == (1, 1) else over_maps(F.avg_pool2d, x, pooling)
        pooled = pooled + self._attend(pooled, guidance)
        pooled = pooled + self.mlp(self.norm2(pooled))
        if pooled.shape[2:4] != size:
            pooled = over_maps(F.interpolate, pooled, size, mode='bilinear', align_corners=True)
        return x + pooled

    def _attend(self, x: Tensor, guidance: Tensor) -> Tensor:
        """Linear attention over T of ``(B, T, H, W, C)``: its cost grows with T, not its square."""
        heads = (self.num_heads, -1)
        parts = self.project(self.norm1(x), guidance)
        # Sums over hundreds of classes and their quotient need float32 under autocast.
        with torch.autocast(x.device.type, enabled=False):
            q, k, v = (part.unflatten(-1, heads) for part in upcast(*parts))
            q, k = F.elu(q) + 1, F.elu(k) + 1
            # (B, H, W, heads, T, C / heads)
            q, k, v = (part.permute(0, 2, 3, 4, 1, 5) for part in (q, k, v))
            # sums over the classes: (B, H, W, heads, c) and (B, H, W, heads, c, c), c = C / heads
            keys, memory = k.sum(-2), k.transpose(-2, -1) @ v
            missing = self.pad_len - x.shape[1]
            if missing > 0:
                # all copies of the padding have one key and one value, which count `missing` times
                padding = self.project(self.norm1(self.padding), self.padding_guidance)
                _, key, value = upcast(*padding)
                key, value = (F.elu(key) + 1).unflatten(-1, heads), value.unflatten(-1, heads)
                keys = keys + missing * key
                memory = memory + missing * key.unsqueeze(-1) * value.unsqueeze(-2)
            out = (q @ memory) / (q @ keys.unsqueeze(-1) + 1e-6)
            return out.permute(0, 4, 1, 2, 3, 5).flatten(-2).to(x.dtype)


def over_maps(function, x: Tensor, *args, **kwargs) -> Tensor:
    """Applies a function of images ``(N, C, H, W)`` to the maps of ``(B, T, H, W, C)``."""
    maps = function(x.flatten(0, 1).permute(0, 3, 1, 2), *args, **kwargs)
    return maps.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
