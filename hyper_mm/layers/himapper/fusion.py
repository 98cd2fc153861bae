"""Ways to bring a hierarchy back into a feature map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..common.attention import Attention
from .decomposer import init_weights

if TYPE_CHECKING:
    from .mapper import Hierarchy


class TokenFusion(nn.Module):
    r"""Adds an enriched global token to every position, :math:`v + \gamma \odot v^L`.

    Args:
        dim: Feature width d.
        gate_init: Initial value of the gate ``gamma``; with 0 the module is the identity at
            initialization.
    """

    def __init__(self, dim: int, gate_init: float = 0.0):
        super().__init__()
        self.gate = nn.Parameter(torch.full((dim,), float(gate_init)))

    def forward(self, tokens: Tensor, found: Hierarchy) -> Tensor:
        """Adds the gated update to every position.

        Args:
            tokens: Feature map ``(B, M, d)``.
            found: Its hierarchy, with an ``update`` ``(B, 1, d)``.

        Returns:
            Feature map ``(B, M, d)``.
        """
        if found.update is None:
            raise ValueError('the hierarchy must have an update: build the mapper with encode=True')
        return tokens + self.gate * found.update


class NodeFusion(nn.Module):
    r"""Lets every position attend to the nodes of all levels,
    :math:`v + \gamma \odot W \operatorname{Attn}(v, S_{1..L})`.

    Args:
        dim: Feature width d.
        width: Hidden width.
        num_heads: Heads.
        gate_init: Initial value of the gate ``gamma``; with 0 the module is the identity at
            initialization.
        zero_init_out: Initialize the output projection to zero: the module is the identity at
            initialization with any gate, and with a gate of 1 the gradient of the task reaches
            the whole projection at once.
    """

    def __init__(
        self,
        dim: int,
        width: int = 128,
        num_heads: int = 4,
        gate_init: float = 0.0,
        zero_init_out: bool = False,
    ):
        super().__init__()
        self.query_proj = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width))
        self.memory_proj = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width))
        self.attn = Attention(width, num_heads)
        self.out_proj = nn.Linear(width, dim)
        self.apply(init_weights)
        if zero_init_out:
            nn.init.zeros_(self.out_proj.weight)
        self.gate = nn.Parameter(torch.full((dim,), float(gate_init)))

    def forward(self, tokens: Tensor, found: Hierarchy) -> Tensor:
        """Adds what every position reads from the nodes by attention.

        Args:
            tokens: Feature map ``(B, M, d)``.
            found: Its hierarchy.

        Returns:
            Feature map ``(B, M, d)``.
        """
        memory = self.memory_proj(torch.cat(found.levels, 1))  # (B, sum(N_l), width)
        query = self.query_proj(tokens.contiguous())
        return tokens + self.gate * self.out_proj(self.attn(query, memory))


class AssignmentFusion(nn.Module):
    r"""Gives every position the nodes that it is assigned to, by the decomposer's own attention,
    :math:`v_m + \gamma \odot W \sum_l \operatorname{LN}_l(\sum_n A_l[n, m]\, s_l[n])`.

    So the gradient of the task reaches the assignment itself; with the other fusions it reaches
    only what the nodes carry.

    Args:
        dim: Feature width d.
        num_levels: Levels of the tree.
        gate_init: Initial value of the gate ``gamma``; with 0 the module is the identity at
            initialization.
        zero_init_out: See :class:`NodeFusion`.
    """

    def __init__(
        self, dim: int, num_levels: int = 4, gate_init: float = 0.0, zero_init_out: bool = False
    ):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(num_levels))
        self.out_proj = nn.Linear(dim, dim)
        self.apply(init_weights)
        if zero_init_out:
            nn.init.zeros_(self.out_proj.weight)
        self.gate = nn.Parameter(torch.full((dim,), float(gate_init)))

    def forward(self, tokens: Tensor, found: Hierarchy) -> Tensor:
        """Adds the nodes that every position is assigned to.

        Args:
            tokens: Feature map ``(B, M, d)``.
            found: Its hierarchy, with an ``assignment``.

        Returns:
            Feature map ``(B, M, d)``.
        """
        if found.assignment is None:
            raise ValueError(
                'the hierarchy must have an assignment: find it with with_assignment=True'
            )
        # (B, M, N_l) @ (B, N_l, d), summed over the levels
        drawn = sum(
            norm(share.to(nodes.dtype).transpose(-2, -1) @ nodes)
            for norm, share, nodes in zip(self.norms, found.assignment, found.levels)
        )
        return tokens + self.gate * self.out_proj(drawn)
