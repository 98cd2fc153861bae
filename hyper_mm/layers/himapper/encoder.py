"""Hi-Mapper: enriches a global token by the nodes of a hierarchy, level by level.

Source: Kwon et al., Improving Visual Recognition with Hyperbolical Visual Hierarchy Mapping
(CVPR 2024, arXiv 2404.00974).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..common.attention import Attention, Mlp
from ..common.dropout import Dropout
from .decomposer import init_weights


class EncoderBlock(nn.Module):
    """Pre-norm cross-attention of single tokens to the nodes of a level, a linear map, and MLP.

    The block of the official code has self-attention over its one token, which is the linear map
    ``proj(value(x))`` whatever the queries and keys are: those have no weights here.

    Args:
        width: Hidden width.
        num_heads: Heads.
        dropout: Dropout.
    """

    def __init__(self, width: int, num_heads: int, dropout: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn = Attention(width, num_heads, dropout=dropout)
        self.norm2 = nn.LayerNorm(width)
        self.value = nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, width)
        self.drop = Dropout(dropout)
        self.norm3 = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width, dropout)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Enriches tokens ``(B, T, width)`` by nodes ``(B, N, width)``, each token by itself."""
        x = x + self.cross_attn(self.norm1(x), memory)
        x = x + self.drop(self.proj(self.value(self.norm2(x))))
        return x + self.mlp(self.norm3(x))


class HierarchyEncoder(nn.Module):
    r"""Enriches a global token by the hierarchy, level by level from the leaves to the top.

    .. math:: q^0 = W_q \operatorname{LN}(v),\qquad q^l = \operatorname{Block}_l(q^{l-1},
        \operatorname{LN}(W_m \operatorname{LN}(S_l))),\qquad v^l = W_o \operatorname{LN}(q^l)

    Args:
        dim: Feature width d.
        num_levels: Levels, one block each.
        width: Hidden width.
        num_heads: Heads.
        dropout: Dropout.
        zero_init_out: Initialize the output projection to zero.
    """

    def __init__(
        self,
        dim: int,
        num_levels: int = 4,
        width: int = 128,
        num_heads: int = 4,
        dropout: float = 0.1,
        zero_init_out: bool = False,
    ):
        super().__init__()
        self.memory_proj = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, width), nn.LayerNorm(width)
        )
        self.query_proj = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width))
        self.blocks = nn.ModuleList(
            EncoderBlock(width, num_heads, dropout) for _ in range(num_levels)
        )
        out = nn.Linear(width, dim)
        self.out_proj = nn.Sequential(nn.LayerNorm(width), out)
        self.apply(init_weights)
        if zero_init_out:
            nn.init.zeros_(out.weight)

    def forward(
        self, token: Tensor, levels: tuple[Tensor, ...], every_level: bool = False
    ) -> Tensor:
        """Encodes the hierarchy.

        Args:
            token: Global tokens ``(B, T, d)``; tokens do not see each other.
            levels: Node features ``(B, N_l, d)`` of each level, leaves first.
            every_level: Return the update after every level, ``(L, B, T, d)``.

        Returns:
            Update :math:`v^L` of the tokens, ``(B, T, d)``.
        """
        # the projection of all levels in one call: (B, sum(N_l), d) -> (B, sum(N_l), width)
        sizes = [level.shape[1] for level in levels]
        memory = self.memory_proj(torch.cat(levels, 1)).split(sizes, 1)
        x, states = self.query_proj(token), []
        for block, nodes in zip(self.blocks, memory):
            x = block(x, nodes)
            states.append(x)
        return self.out_proj(torch.stack(states) if every_level else x)
