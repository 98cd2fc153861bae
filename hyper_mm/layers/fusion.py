"""Ways to bring a hierarchy back into a feature map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .attention import Attention
from .hierarchy import init_weights


class TokenFusion(nn.Module):
    r"""Adds an enriched global token to every position, :math:`v + \gamma \odot v^L`.

    Args:
        dim: Feature width d.
        gate_init: Initial value of the gate ``gamma``; with 0 the feature map starts unchanged.
    """

    def __init__(self, dim: int, gate_init: float = 0.0):
        super().__init__()
        self.gate = nn.Parameter(torch.full((dim,), float(gate_init)))

    def forward(self, tokens: Tensor, update: Tensor, levels: tuple[Tensor, ...]) -> Tensor:
        """Fuses.

        Args:
            tokens: Feature map ``(B, M, d)``.
            update: Encoded hierarchy ``(B, 1, d)``.
            levels: Not used.

        Returns:
            Feature map ``(B, M, d)``.
        """
        return tokens + self.gate * update


class NodeFusion(nn.Module):
    r"""Lets every position attend to the nodes of all levels,
    :math:`v + \gamma \odot W \operatorname{Attn}(v, S_{1..L})`.

    Args:
        dim: Feature width d.
        width: Hidden width.
        num_heads: Heads.
        gate_init: Initial value of the gate ``gamma``; with 0 the feature map starts unchanged.
    """

    def __init__(self, dim: int, width: int = 128, num_heads: int = 4, gate_init: float = 0.0):
        super().__init__()
        self.query_proj = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width))
        self.memory_proj = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width))
        self.attn = Attention(width, num_heads)
        self.out_proj = nn.Linear(width, dim)
        self.apply(init_weights)
        self.gate = nn.Parameter(torch.full((dim,), float(gate_init)))

    def forward(self, tokens: Tensor, update: Tensor, levels: tuple[Tensor, ...]) -> Tensor:
        """Fuses.

        Args:
            tokens: Feature map ``(B, M, d)``.
            update: Not used.
            levels: Node features ``(B, N_l, d)`` of each level.

        Returns:
            Feature map ``(B, M, d)``.
        """
        memory = self.memory_proj(torch.cat(levels, 1))
        query = self.query_proj(tokens.contiguous())
        return tokens + self.gate * self.out_proj(self.attn(query, memory))
