"""Attention of the hierarchy decomposer and encoder."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention whose memory is projected separately, so that it can be shared.

    Args:
        width: Width of queries, memory and output.
        num_heads: Number of heads.
        scale: Multiplier of the logits; ``1 / sqrt(width / num_heads)`` if None.
        dropout: Dropout after the output projection.

    Raises:
        ValueError: If ``num_heads`` does not divide ``width``.
    """

    def __init__(
        self, width: int, num_heads: int, scale: float | None = None, dropout: float = 0.0
    ):
        super().__init__()
        if width % num_heads:
            raise ValueError(f'num_heads must divide width {width}, got {num_heads}')
        self.num_heads = num_heads
        self.scale = (width // num_heads) ** -0.5 if scale is None else scale
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attends from queries to a memory.

        Args:
            query: Queries ``(B, Q, width)``, or ``(Q, width)`` for queries shared by the batch.
            memory: Memory ``(B, M, width)``.
            mask: Where attention is allowed, boolean ``(Q, M)``.

        Returns:
            Output ``(B, Q, width)``.
        """
        q, k, v = (
            self._heads(p(x))
            for p, x in ((self.q_proj, query), (self.k_proj, memory), (self.v_proj, memory))
        )
        q = q.expand(k.shape[0], *q.shape[-3:])
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)
        return self.drop(self.proj(out.transpose(-3, -2).flatten(-2)))

    def weights(self, query: Tensor, memory: Tensor) -> Tensor:
        """Attention weights, averaged over heads.

        Args:
            query: Queries ``(B, Q, width)`` or ``(Q, width)``.
            memory: Memory ``(B, M, width)``.

        Returns:
            Weights ``(B, Q, M)``; each row sums to 1.
        """
        q, k = self._heads(self.q_proj(query)), self._heads(self.k_proj(memory))
        return (q @ k.mT * self.scale).softmax(-1).mean(-3)


class Mlp(nn.Sequential):
    """Two linear layers with GELU and dropout.

    Args:
        width: Width of input and output.
        hidden: Hidden width.
        dropout: Dropout inside and after.
    """

    def __init__(self, width: int, hidden: int, dropout: float = 0.0):
        super().__init__(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )
