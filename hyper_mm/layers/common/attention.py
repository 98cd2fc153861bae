"""Attention of the hierarchy decomposer and encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dropout import Dropout


class Attention(nn.Module):
    """Multi-head attention whose memory is projected separately, so that it can be shared.

    Args:
        width: Width of queries, memory and output.
        num_heads: Number of heads.
        scale: Multiplier of the logits; ``1 / sqrt(width / num_heads)`` if None.
        dropout: Dropout after the output projection.
        competition: Let queries compete for the memory as in slot attention (Locatello et al.,
            NeurIPS 2020): the softmax is over the queries of a group, and its weights are scaled to
            the sum of 1 over the memory. The usual softmax is over the memory alone.

    Raises:
        ValueError: If ``num_heads`` does not divide ``width``.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        scale: float | None = None,
        dropout: float = 0.0,
        competition: bool = False,
    ):
        super().__init__()
        if width % num_heads:
            raise ValueError(f'num_heads must divide width {width}, got {num_heads}')
        self.num_heads = num_heads
        self.competition = competition
        self.scale = (width // num_heads) ** -0.5 if scale is None else scale
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, width)
        self.drop = Dropout(dropout)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)

    def forward(
        self,
        query: Tensor,
        memory: Tensor,
        mask: Tensor | None = None,
        groups: tuple[int, ...] | None = None,
        levels: tuple[int, ...] | None = None,
    ) -> Tensor:
        """Attends from queries to a memory.

        Args:
            query: Queries ``(B, Q, width)``, or ``(Q, width)`` for queries shared by the batch.
            memory: Memory ``(B, M, width)``.
            mask: Where attention is allowed, boolean ``(Q, M)``; not with ``competition``.
            groups: Sizes of the groups of queries that compete; all of them if None.
            levels: The queries are the leaves of a tree of so many nodes a level, leaves first, and
                the output has a row for each node: the share of a node is the sum of its
                children's. Only with ``competition``, in place of ``groups``.

        Returns:
            Output ``(B, Q, width)``, ``(B, sum(levels), width)`` with ``levels``.
        """
        if self.competition:
            return self.read(query, memory, groups, levels)[0]
        q, k, v = (
            self._heads(p(x))
            for p, x in ((self.q_proj, query), (self.k_proj, memory), (self.v_proj, memory))
        )
        q = q.expand(memory.shape[0], *q.shape[-3:])
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)
        return self.drop(self.proj(out.transpose(-3, -2).flatten(-2)))

    def read(
        self,
        query: Tensor,
        memory: Tensor,
        groups: tuple[int, ...] | None = None,
        levels: tuple[int, ...] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attends with ``competition``; see :meth:`forward` and :meth:`assignment`.

        Returns:
            Output ``(B, Q, width)`` and assignment ``(B, Q, M)``, of one computation.
        """
        share = self._shares(self._logits(query, memory), groups, levels)
        v = self._heads(self.v_proj(memory))
        out = self._normalized(share).to(v.dtype) @ v
        return self.drop(self.proj(out.transpose(-3, -2).flatten(-2))), share.mean(-3)

    def weights(
        self,
        query: Tensor,
        memory: Tensor,
        groups: tuple[int, ...] | None = None,
        levels: tuple[int, ...] | None = None,
    ) -> Tensor:
        """Attention weights, averaged over heads.

        Args:
            query: Queries ``(B, Q, width)`` or ``(Q, width)``.
            memory: Memory ``(B, M, width)``.
            groups: Sizes of the groups of queries that compete; all of them if None.
            levels: See :meth:`forward`.

        Returns:
            Weights ``(B, Q, M)``; each row sums to 1.
        """
        logits = self._logits(query, memory)
        if self.competition:
            return self._normalized(self._shares(logits, groups, levels)).mean(-3)
        return logits.softmax(-1).mean(-3)

    def assignment(
        self, query: Tensor, memory: Tensor, groups: tuple[int, ...] | None = None
    ) -> Tensor:
        r"""To which query each position of the memory belongs, averaged over heads.

        With ``competition``, the softmax over queries; otherwise the posterior
        :math:`w_{qm} / \sum_{q'} w_{q'm}` of the attention weights ``w``.

        Args:
            query: Queries ``(B, Q, width)`` or ``(Q, width)``.
            memory: Memory ``(B, M, width)``.
            groups: Sizes of the groups of queries; all of them if None.

        Returns:
            Probabilities ``(B, Q, M)``, float32 at least; they sum to 1 over each group.
        """
        logits = self._logits(query, memory)
        if not self.competition:
            logits = logits.float() if logits.dtype != torch.float64 else logits
            logits = logits - logits.logsumexp(-1, keepdim=True)
        return self._shares(logits, groups).mean(-3)

    def _logits(self, query: Tensor, memory: Tensor) -> Tensor:
        q, k = self._heads(self.q_proj(query)), self._heads(self.k_proj(memory))
        q = q.expand(memory.shape[0], *q.shape[-3:])  # exporters lose a batch that is broadcast
        return q @ k.transpose(-2, -1) * self.scale

    @staticmethod
    def _shares(
        logits: Tensor, groups: tuple[int, ...] | None, levels: tuple[int, ...] | None = None
    ) -> Tensor:
        logits = logits.float() if logits.dtype != torch.float64 else logits
        if levels is None:
            parts = logits.split(groups, -2) if groups else (logits,)
            return torch.cat([part.softmax(-2) for part in parts], -2)
        shares = [logits.softmax(-2)]
        for count in levels[1:]:  # children of a node are consecutive rows
            shares.append(shares[-1].unflatten(-2, (count, -1)).sum(-2))
        return torch.cat(shares, -2)

    @staticmethod
    def _normalized(share: Tensor) -> Tensor:
        # the floor lets a query that wins nothing read the mean, with a finite gradient
        share = share + 1e-6
        return share / share.sum(-1, keepdim=True)


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
            Dropout(dropout),
            nn.Linear(hidden, width),
            Dropout(dropout),
        )
