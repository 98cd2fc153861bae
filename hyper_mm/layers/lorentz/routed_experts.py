"""Experts that each see a few of the tokens, dispatched without waiting for their counts."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...checks import check_choice
from ...compat import in_backward, is_compiling, is_exporting
from ...deprecation import renamed_arguments
from ...ops.inputs import upcast
from ...ops.products import linear
from ..common.aux_losses import AuxLossSource

_LOADS = threading.Lock()
"""Held where the tokens of experts are counted: threads may share a model."""


class Routing(NamedTuple):
    """Where T tokens go.

    Attributes:
        indices: Chosen experts ``(T, k)``, the best first.
        gates: Their weights ``(T, k)``.
        scores: Scores of all experts ``(T, E)``, without the bias.
        counts: Tokens of each expert ``(E,)``.
    """

    indices: Tensor
    gates: Tensor
    scores: Tensor
    counts: Tensor


class RoutedExperts(AuxLossSource, nn.Module):
    r"""Base of layers whose tokens go to the best few experts.

    In training they publish ``loss_balance``, which :func:`hyper_mm.layers.collect_losses` and the
    models of hyper_mm collect:

    .. math:: \alpha \sum_e f_e P_e,\qquad f_e = \frac{E\, n_e}{k T}

    with :math:`n_e` the tokens of expert e and :math:`P_e` its mean share of the scores.

    Args:
        embed_dims: Dimensions of a token.
        num_experts: Number of routed experts.
        top_k: Experts of a token.
        score: ``'softmax'`` or ``'sigmoid'``.
        renormalize: Gates of a token add up to 1.
        balance_weight: Weight :math:`\alpha` of the balance loss; 0 leaves it out.

    Raises:
        ValueError: If ``top_k`` exceeds ``num_experts``, or another argument is out of range.
    """

    bias: Tensor

    adds_up = True

    @renamed_arguments(dims='embed_dims', renormalise='renormalize')
    def __init__(
        self,
        embed_dims: int,
        num_experts: int,
        top_k: int,
        score: str = 'softmax',
        renormalize: bool = True,
        balance_weight: float = 1e-4,
    ):
        super().__init__()
        if not 1 <= top_k <= num_experts:
            raise ValueError(f'top_k must be 1 to num_experts = {num_experts}, got {top_k}')
        check_choice(('softmax', 'sigmoid'), score=score)
        if embed_dims < 1 or not balance_weight >= 0:
            raise ValueError(
                'embed_dims must be positive and balance_weight must be at least 0, got '
                f'{embed_dims}, {balance_weight}'
            )
        self.num_experts, self.top_k = num_experts, top_k
        self.score, self.renormalize = score, renormalize
        self.balance_weight = balance_weight
        self.gate = nn.Parameter(torch.empty(num_experts, embed_dims))
        nn.init.xavier_uniform_(self.gate)
        self.register_buffer('bias', torch.zeros(num_experts))
        self._load: Tensor | None = None

    def route(
        self, x: Tensor, counted: Tensor | None = None, logits: Tensor | None = None
    ) -> Routing:
        """Chooses the experts of tokens; the bias takes part in the choice alone.

        Args:
            x: Tokens ``(T, embed_dims)``.
            counted: Which of them count for the balance, bool ``(T,)``: not those of padding. None:
                all.
            logits: Logits of the experts ``(T, E)``; None: linear in the tokens.
        """
        if logits is None:
            with torch.autocast(x.device.type, enabled=False):  # few rows, and rounding decides
                x, gate = upcast(x, self.gate)
                logits = F.linear(x, gate)
        scores = logits.softmax(-1) if self.score == 'softmax' else logits.sigmoid()
        indices = (scores.detach() + self.bias).topk(self.top_k).indices
        gates = scores.gather(-1, indices)
        if self.renormalize:
            gates = gates / gates.sum(-1, keepdim=True)
        flat = indices.flatten()
        counts = self._counts(flat, torch.ones_like(flat))
        if not self.training:
            return Routing(indices, gates, scores, counts)
        kept, of_balance = None, counts
        if counted is not None:
            # sums with weights 0 and 1: choosing rows would wait for their number
            kept = counted.flatten()
            of_balance = self._counts(flat, kept.to(flat).repeat_interleave(self.top_k))
        if not in_backward():  # where activation checkpointing repeats the pass
            self._count(of_balance)
        if self.balance_weight and self.publishes:
            (gates,) = self.publish(
                {'loss_balance': self._balance_loss(scores, of_balance, kept)}, gates
            )
        return Routing(indices, gates, scores, counts)

    def _count(self, counts: Tensor) -> None:
        if is_compiling():  # knows no locks
            self._load = counts + (0 if self._load is None else self._load)
            return
        with _LOADS:
            self._load = counts + (0 if self._load is None else self._load)

    def _counts(self, experts: Tensor, weights: Tensor) -> Tensor:
        return experts.new_zeros(self.num_experts).scatter_add_(0, experts, weights)

    def dispatch(
        self,
        x: Tensor,
        indices: Tensor,
        counts: Tensor,
        expert: Callable[..., Tensor],
        parameters: Sequence[Tensor],
    ) -> Tensor:
        """Sends tokens through their experts, sorted by expert.

        Args:
            x: Tokens ``(T, embed_dims)``.
            indices: Their experts ``(T, k)``.
            counts: Tokens of each expert ``(E,)``.
            expert: Function of tokens ``(..., n, embed_dims)`` and the parameters ``(..., p, q)``
                of one expert, or of one expert a batch item.
            parameters: Parameters of all experts, each ``(E, p, q)``.

        Returns:
            Results ``(T, k, out)``.
        """
        if is_exporting():
            return by_all(x, indices, expert, parameters)
        if len(x) == 1:
            return by_experts(x, indices[0], expert, parameters).unsqueeze(0)
        flat = indices.flatten()
        order = flat.argsort(stable=True)
        rows = x.index_select(0, order // indices.shape[-1])
        if x.device.type == 'cpu' and not is_compiling():
            rows = by_parts(rows, counts.tolist(), expert, parameters)
        else:
            rows = by_blocks(rows, flat[order], counts, expert, parameters)
        steps = torch.arange(len(order), device=order.device)
        back = torch.empty_like(order).scatter_(0, order, steps)
        return rows.index_select(0, back).unflatten(0, indices.shape)

    def _balance_loss(self, scores: Tensor, counts: Tensor, kept: Tensor | None) -> Tensor:
        """Balance loss of scores ``(T, E)``; ``counts`` are of the tokens ``kept``."""
        share = scores / scores.sum(-1, keepdim=True)
        tokens: int | Tensor = len(share)
        if kept is None:
            share = share.mean(0)
        else:
            weights = kept.to(share.dtype)
            tokens = weights.sum().clamp_min(1)
            share = (weights @ share) / tokens
        fraction = counts.to(share.dtype) * self.num_experts / (tokens * self.top_k)
        return self.balance_weight * (fraction * share).sum()

    @torch.no_grad()
    def update_bias(self, speed: float = 0.005) -> None:
        r"""Shifts the choice to experts that had few tokens since the last call.

        .. math:: b_e \leftarrow b_e + s\, (\bar u - u_e),\qquad u_e = n_e / \textstyle\sum n

        Tokens of all processes count. To be called after each step of the optimizer.
        """
        with _LOADS:
            load, self._load = self._load, None
        if load is None:
            return
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(load)
        use = load.to(self.bias.dtype) / load.sum().clamp_min(1)
        self.bias += speed * (use.mean() - use)


def affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Linear map ``(..., n, d)`` to ``(..., n, o)`` by a weight ``(..., o, d)``, one a batch item.

    Biases are ``(o,)`` or ``(..., 1, o)``.
    """
    if weight.ndim == 2:
        return linear(x, (weight,), (None if bias is None else bias.flatten(),))
    if bias is None:
        return x @ weight.transpose(-2, -1)
    shape = (*x.shape[:-1], weight.shape[-2])
    return torch.baddbmm(bias.expand(shape), x, weight.transpose(-2, -1))


def by_all(
    x: Tensor, indices: Tensor, expert: Callable[..., Tensor], parameters: Sequence[Tensor]
) -> Tensor:
    """Sends all tokens ``(T, embed_dims)`` through all experts; results ``(T, k, out)``.

    For exported code, whose shapes must not depend on how many tokens an expert has.
    """
    found = torch.stack([expert(x, *own) for own in zip(*(p.unbind() for p in parameters))], 1)
    return found.gather(1, indices.unsqueeze(-1).expand(-1, -1, found.shape[-1]))


def by_experts(
    token: Tensor, owners: Tensor, expert: Callable[..., Tensor], parameters: Sequence[Tensor]
) -> Tensor:
    """Sends one token ``(1, embed_dims)`` through the experts ``owners`` ``(k,)``: ``(k, out)``.

    A CPU reads their weights where they lie; accelerators gather them, not to wait for indices.
    """
    if token.device.type == 'cpu':
        return torch.cat([expert(token, *(p[i] for p in parameters)) for i in owners.tolist()])
    tokens = token.expand(len(owners), 1, -1)
    return expert(tokens, *(p[owners] for p in parameters)).squeeze(1)


def by_parts(
    rows: Tensor, counts: list[int], expert: Callable[..., Tensor], parameters: Sequence[Tensor]
) -> Tensor:
    """Sends sorted rows ``(R, embed_dims)`` through their experts, one expert after the other."""
    parts = zip(rows.split(counts), *(p.unbind() for p in parameters))
    return torch.cat([expert(part, *own) for part, *own in parts])


def by_blocks(
    rows: Tensor,
    owners: Tensor,
    counts: Tensor,
    expert: Callable[..., Tensor],
    parameters: Sequence[Tensor],
) -> Tensor:
    """Sends sorted rows through their experts in blocks, whose number depends on shapes alone.

    Expert e takes ``ceil(counts[e] / size)`` blocks; all together at most ``R / size + E``.

    Args:
        rows: Rows ``(R, embed_dims)``, sorted by expert.
        owners: Expert of each row ``(R,)``.
        counts: Rows of each expert ``(E,)``.
        expert: See :meth:`RoutedExperts.dispatch`.
        parameters: The same.

    Returns:
        Results ``(R, out)``.
    """
    total, num = len(rows), len(counts)
    size = max(16, 2 ** round(math.log2(max(total / (4 * num), 1))))
    blocks = total // size + num
    room = (counts + size - 1) // size * size
    ends = room.cumsum(0)
    shift = (ends - room) - (counts.cumsum(0) - counts)
    place = torch.arange(total, device=rows.device) + shift[owners]
    laid = rows.new_zeros(blocks * size, rows.shape[-1]).index_copy(0, place, rows)
    starts = torch.arange(blocks, device=rows.device) * size
    owner = torch.searchsorted(ends, starts, right=True).clamp_max(num - 1)
    laid = expert(laid.unflatten(0, (blocks, size)), *(p[owner] for p in parameters))
    return laid.flatten(0, 1).index_select(0, place)
