"""Hi-Mapper: decomposition of a feature map into the nodes of a tree.

Source: Kwon et al., Improving Visual Recognition with Hyperbolical Visual Hierarchy Mapping
(CVPR 2024, arXiv 2404.00974).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..common.attention import Attention, Mlp
from .tree import Queries


def init_weights(module: nn.Module) -> None:
    """Truncated normal linear layers with zero bias, identity layer norms."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Nodes(NamedTuple):
    """Visual hierarchy of a batch of images.

    Attributes:
        levels: Node features ``(B, N_l, d)`` of each level, leaves first.
        samples: The same before averaging over the samples of a node; None unless asked for.
        assignment: To which node of a level each position belongs: probabilities ``(B, N_l, M)``
            that sum to 1 over the nodes; None unless asked for.
    """

    levels: tuple[Tensor, ...]
    samples: tuple[Tensor, ...] | None = None
    assignment: tuple[Tensor, ...] | None = None


class DecomposerBlock(nn.Module):
    """Pre-norm cross-attention to the memory, self-attention within a level, and MLP.

    Args:
        width: Hidden width.
        num_heads: Heads.
        scale: Scale of the cross-attention logits.
        dropout: Dropout.
        competition: Let the queries of a level compete for the memory.
        bottom_up: Make the nodes of their children; see :class:`HierarchyDecomposer`.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        scale: float | None,
        dropout: float,
        competition: bool = False,
        bottom_up: bool = False,
    ):
        super().__init__()
        self.bottom_up = bottom_up
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn = Attention(width, num_heads, scale, dropout, competition)
        self.norm2 = nn.LayerNorm(width)
        self.self_attn = Attention(width, num_heads, dropout=dropout)
        self.norm3 = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width, dropout)

    def forward(
        self, x: Tensor, memory: Tensor, sizes: tuple[int, ...]
    ) -> tuple[Tensor, Tensor | None]:
        """Refines the queries of all levels at once.

        Args:
            x: Queries ``(Q, width)``, shared by the batch; of the leaves alone where nodes are made
                bottom-up.
            memory: Memory ``(B, M, width)``.
            sizes: Queries of each level.

        Returns:
            Refined queries ``(B, sum(sizes), width)``, and with competition the assignment
            ``(B, sum(sizes), M)`` of the memory to them.
        """
        share = None
        if self.bottom_up:  # what a node has read, and no query, which is the same in all images
            x, share = self.cross_attn.read(self.norm1(x), memory, levels=sizes)
        elif self.cross_attn.competition:
            seen, share = self.cross_attn.read(self.norm1(x), memory, sizes)
            x = x + seen
        else:
            x = x + self.cross_attn(self.norm1(x), memory)
        y = self.norm2(x)
        if len(set(sizes)) == 1:
            # levels of one size become a dimension of the batch: no mask, (B * L, Q / L, width)
            y = y.unflatten(1, (len(sizes), -1)).flatten(0, 1)
            y = self.self_attn(y, y).view_as(x)
        else:
            level = torch.cat([torch.full((n,), i, device=x.device) for i, n in enumerate(sizes)])
            same_level = level[:, None] == level
            y = self.self_attn(y, y, mask=same_level)
        x = x + y
        return x + self.mlp(self.norm3(x)), share


class HierarchyDecomposer(nn.Module):
    r"""Decomposes a feature map into the nodes of a tree, all levels by one shared layer.

    .. math::
        m &= \operatorname{LN}(W_m \operatorname{LN}(v)),\quad q_l = W_q \operatorname{LN}(T_l) \\
        x &= q_l + \operatorname{CrossAttn}(\operatorname{LN}(q_l), m) \\
        x &\leftarrow x + \operatorname{SelfAttn}_l(\operatorname{LN}(x)), \qquad
        x \leftarrow x + \operatorname{MLP}(\operatorname{LN}(x)) \\
        S_l &= W_o \operatorname{LN}(\text{mean of } x \text{ over the samples of a node})

    With ``bottom_up`` (not in the paper) the leaves alone compete for positions, and a node reads
    what its children read, :math:`A_p = \sum_{n \in children(p)} A_n`: its region is the union of
    theirs by construction. What is read replaces ``x`` in the second line, without the query, which
    is the same in all images.

    The levels only share weights and memory, so they go through the layer in one call, and queries
    that the batch shares are projected once.

    Args:
        dim: Feature width d.
        width: Hidden width.
        num_heads: Heads.
        scale: Scale of the cross-attention logits.
        dropout: Dropout.
        competition: Let the nodes of a level compete for positions; see :class:`Attention`. The
            paper has a softmax over positions, without competition.
        bottom_up: Make the nodes of their children.

    Raises:
        ValueError: If ``bottom_up`` is set without ``competition``.
    """

    def __init__(
        self,
        dim: int,
        width: int = 128,
        num_heads: int = 4,
        scale: float | None = 1 / 0.07,
        dropout: float = 0.1,
        competition: bool = False,
        bottom_up: bool = False,
    ):
        super().__init__()
        if bottom_up and not competition:
            raise ValueError('bottom_up=True needs competition=True, got competition=False')
        self.memory_proj = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, width), nn.LayerNorm(width)
        )
        self.query_proj = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width))
        self.block = DecomposerBlock(width, num_heads, scale, dropout, competition, bottom_up)
        self.out_proj = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))
        self.apply(init_weights)

    def forward(
        self,
        memory: Tensor,
        queries: Queries,
        with_samples: bool = False,
        with_assignment: bool = False,
    ) -> Nodes:
        """Computes the nodes.

        Args:
            memory: Feature map as tokens ``(B, M, d)``.
            queries: Tree samples.
            with_samples: Return the nodes' samples, too.
            with_assignment: Return the assignment of positions to nodes, too.

        Returns:
            Node features ``(B, N_l, d)`` of each level.
        """
        queries = self._asked(queries)
        samples, nodes, copies = queries
        sizes = tuple(n * k for n, k in zip(nodes, copies))
        # (Q, width), which the batch shares, and (B, M, width)
        query, memory = self.query_proj(samples), self.memory_proj(memory)
        x, share = self.block(query, memory, sizes)
        if with_assignment and share is None:
            share = self.block.cross_attn.assignment(self.block.norm1(query), memory, sizes)
        if max(copies) == 1:
            mean = x
        else:  # (B, N_l * copies, width) -> (B, N_l, copies, width), averaged
            parts = zip(x.split(sizes, 1), nodes)
            mean = torch.cat([p.unflatten(1, (n, -1)).mean(2) for p, n in parts], 1)
        levels = self.out_proj(mean).split(nodes, 1)
        return Nodes(
            levels,
            self.out_proj(x).split(sizes, 1) if with_samples else None,
            self._of_nodes(share, queries) if with_assignment and share is not None else None,
        )

    def _asked(self, queries: Queries) -> Queries:
        """The queries that are used: those of the leaves alone where nodes are made bottom-up."""
        if not self.block.bottom_up:
            return queries
        leaves = queries.nodes[0] * queries.copies[0]
        return Queries(queries.samples[:leaves], queries.nodes, (1,) * len(queries.nodes))

    @staticmethod
    def _of_nodes(share: Tensor, queries: Queries) -> tuple[Tensor, ...]:
        sizes = tuple(n * k for n, k in zip(queries.nodes, queries.copies))
        # a node's share of a position is the sum of its samples' shares
        parts = zip(share.split(sizes, 1), queries.nodes)
        return tuple(p.unflatten(1, (n, -1)).sum(2) for p, n in parts)

    def attention(self, memory: Tensor, queries: Queries) -> tuple[Tensor, ...]:
        """Where the nodes look: cross-attention weights, averaged over heads and samples.

        Args:
            memory: Feature map as tokens ``(B, M, d)``.
            queries: Tree samples.

        Returns:
            Weights ``(B, N_l, M)`` of each level; each row sums to 1.
        """
        samples, nodes, copies = self._asked(queries)
        x = self.block.norm1(self.query_proj(samples))
        sizes = tuple(n * k for n, k in zip(nodes, copies))
        levels = sizes if self.block.bottom_up else None
        weights = self.block.cross_attn.weights(x, self.memory_proj(memory), sizes, levels)
        parts = weights.split(sizes, 1)
        return tuple(p.unflatten(1, (n, -1)).mean(2) for p, n in zip(parts, nodes))
