"""Mixture of curvature experts (HELM)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import lorentz
from ..ops.stable import upcast
from .curvature import Curvature
from .lorentz_ffn import LorentzSwiGLU
from .lorentz_norm import lorentz_sum

_BOUNDS = (0.02, 50.0)


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


class MiCE(nn.Module):
    r"""Feed-forward experts, each in a space of its own curvature, summed on the hyperboloid.

    .. math:: z_i = \sqrt{c_i / c}\; \mathrm{FFN}_i\big(\sqrt{c / c_i}\, x\big),\qquad
        u = \sum_{\mathrm{shared}} y_i + \sum_{i \in \mathrm{top}_k} g_i z_i,\qquad
        \mathrm{MiCE}(x) = \frac{u_s}{\sqrt{-c \langle u, u \rangle_{\mathcal L}}}

    with gates :math:`g` renormalised over the chosen experts. Tokens are sorted by expert: on
    accelerators they are laid out in blocks of one expert each, so that no shape waits for a count.
    The printed formula drops ``g`` and the modulus of the norm; the release never uses the
    curvatures it computes for its experts.

    Args:
        dims: Space dimensions of the points.
        hidden_dims: Hidden space dimensions of an expert.
        num_experts: Number of routed experts.
        top_k: Experts of a token.
        num_shared: Number of experts of all tokens.
        curvatures: Initial curvatures of the first and the last expert, evenly spaced between.
        shared_curvature: Initial curvature of the shared experts; None: that of the input, fixed to
            it, as in the release.
        learn_curvature: Train these curvatures.
        score: ``'softmax'`` or ``'sigmoid'``.
        renormalise: Gates of a token add up to 1. (The release does not for softmax.)
        combine: ``'centroid'`` as above, or ``'sequential'``, the release: experts in the order of
            their indices are added to the origin, ``y <- 2 (y + g e_i)``, and the result to the
            shared expert by a learnt residual connection.
        balance_weight: Weight of the balance loss; see :meth:`aux_losses`.

    Raises:
        ValueError: If ``top_k`` exceeds ``num_experts``, or another argument is out of range.
    """

    def __init__(
        self,
        dims: int,
        hidden_dims: int,
        num_experts: int = 4,
        top_k: int = 2,
        num_shared: int = 1,
        curvatures: tuple[float, float] = (0.1, 2.0),
        shared_curvature: float | None = 1.0,
        learn_curvature: bool = True,
        score: str = 'softmax',
        renormalise: bool = True,
        combine: str = 'centroid',
        balance_weight: float = 1e-4,
    ):
        super().__init__()
        if not 1 <= top_k <= num_experts:
            raise ValueError(f'top_k must be 1 to num_experts = {num_experts}, got {top_k}')
        if score not in ('softmax', 'sigmoid'):
            raise ValueError(f"score must be 'softmax' or 'sigmoid', got {score!r}")
        if combine not in ('centroid', 'sequential'):
            raise ValueError(f"combine must be 'centroid' or 'sequential', got {combine!r}")
        if num_shared < 0 or (combine == 'sequential' and num_shared != 1):
            raise ValueError(f"num_shared must be at least 0, 1 if 'sequential', got {num_shared}")
        if min(dims, hidden_dims) < 1 or balance_weight < 0:
            raise ValueError(
                'dims and hidden_dims must be positive and balance_weight must be at least 0, got '
                f'{dims}, {hidden_dims}, {balance_weight}'
            )
        self.num_experts, self.top_k = num_experts, top_k
        self.score, self.renormalise, self.combine = score, renormalise, combine
        self.balance_weight = balance_weight
        self.gate = nn.Parameter(torch.empty(num_experts, dims))
        nn.init.xavier_uniform_(self.gate)
        self.register_buffer('bias', torch.zeros(num_experts))
        shapes = {'1': (hidden_dims, dims), '3': (hidden_dims, dims), '2': (dims, hidden_dims)}
        for name, (rows, columns) in shapes.items():
            weight = torch.empty(num_experts, rows, columns + 1)
            for part in weight:
                nn.init.xavier_uniform_(part, gain=math.sqrt(2))
            self.register_parameter(f'w{name}', nn.Parameter(weight))
            self.register_parameter(f'b{name}', nn.Parameter(torch.zeros(num_experts, rows)))
        self.shared = nn.ModuleList(LorentzSwiGLU(dims, hidden_dims) for _ in range(num_shared))
        first, last = curvatures
        steps = [i / max(num_experts - 1, 1) for i in range(num_experts)]
        self.curvatures = nn.ModuleList(
            Curvature(first + (last - first) * s, _BOUNDS, learn_curvature) for s in steps
        )
        self.shared_curvatures = nn.ModuleList(
            Curvature(shared_curvature, _BOUNDS, learn_curvature)
            for _ in range(num_shared if shared_curvature is not None else 0)
        )
        if combine == 'sequential':
            self.out_weight = nn.Parameter(torch.ones(()))
            self.out_log_scale = nn.Parameter(torch.tensor(math.log(2)))
        self._routing: Routing | None = None
        self._load: Tensor | None = None

    def route(self, x: Tensor) -> Routing:
        """Chooses the experts of points ``(T, dims)``; the bias takes part in the choice alone."""
        with torch.autocast(x.device.type, enabled=False):
            logits = F.linear(x, self.gate.to(x.dtype))
        scores = logits.softmax(-1) if self.score == 'softmax' else logits.sigmoid()
        indices = (scores.detach() + self.bias).topk(self.top_k).indices
        gates = scores.gather(-1, indices)
        if self.renormalise:
            gates = gates / gates.sum(-1, keepdim=True)
        flat = indices.flatten()
        counts = flat.new_zeros(self.num_experts).scatter_add_(0, flat, torch.ones_like(flat))
        return Routing(indices, gates, scores, counts)

    def forward(self, x: Tensor, c: Tensor | float) -> Tensor:
        """Maps points ``(..., dims)`` of curvature ``-c`` to points of the same shape."""
        (x,) = upcast(x)
        shape, x = x.shape, x.flatten(0, -2)
        routing = self.route(x)
        if self.training:
            self._routing = routing
            self._load = routing.counts + (0 if self._load is None else self._load)
        shared = [ffn(x, c) for ffn in self.shared]
        if self.shared_curvatures:
            shared = []
            for ffn, curvature in zip(self.shared, self.shared_curvatures):
                own = curvature()
                shared.append(lorentz.rescale(ffn(lorentz.rescale(x, c, own), own), own, c))
        indices, gates = routing.indices, routing.gates
        if self.combine == 'sequential':
            indices, rank = indices.sort(-1)
            gates = gates.gather(-1, rank)
        routed = self.experts(x, c, indices, routing.counts)
        if self.combine == 'centroid':
            points = torch.stack([*shared, *routed.unbind(1)], 1)
            ones = gates.new_ones(len(x), len(shared))
            out = lorentz.centroid(points, torch.cat([ones, gates], -1), c)
        else:
            out = torch.zeros_like(x)
            for j in range(self.top_k):
                out = 2 * lorentz_sum(out, routed[:, j], gates[:, j : j + 1], c)
            out = self.out_log_scale.exp() * lorentz_sum(shared[0], out, self.out_weight, c)
        return out.reshape(shape)

    def experts(self, x: Tensor, c: Tensor | float, indices: Tensor, counts: Tensor) -> Tensor:
        """Points ``(T, k, dims)`` that the experts ``indices`` make of points ``(T, dims)``."""
        flat = indices.flatten()
        order = flat.argsort(stable=True)
        rows = x.index_select(0, order // self.top_k)
        curvatures = torch.stack([curvature() for curvature in self.curvatures])
        weights = (self.w1, self.b1, self.w3, self.b3, self.w2, self.b2)
        if x.device.type == 'cpu':
            rows = _by_parts(rows, c, curvatures, weights, counts.tolist())
        else:
            rows = _by_blocks(rows, c, curvatures, weights, flat[order], counts)
        back = torch.empty_like(order).scatter_(
            0, order, torch.arange(len(order), device=order.device)
        )
        return rows.index_select(0, back).unflatten(0, indices.shape)

    def aux_losses(self) -> dict[str, Tensor]:
        r"""Balance loss of the last forward pass of training, handed out once.

        .. math:: \alpha \sum_e f_e P_e,\qquad f_e = \frac{E\, n_e}{k T}

        with :math:`n_e` the tokens of expert e and :math:`P_e` its mean share of the scores.
        """
        routing, self._routing = self._routing, None
        if routing is None or not self.balance_weight:
            return {}
        share = routing.scores / routing.scores.sum(-1, keepdim=True)
        fraction = routing.counts * self.num_experts / routing.indices.numel()
        return {'loss_balance': self.balance_weight * (fraction * share.mean(0)).sum()}

    @torch.no_grad()
    def update_bias(self, speed: float = 0.005) -> None:
        r"""Shifts the choice to experts that had few tokens since the last call.

        .. math:: b_e \leftarrow b_e + s\, (\bar u - u_e),\qquad u_e = n_e / \textstyle\sum n

        Tokens of all processes count. To be called after each step of the optimiser.
        """
        if self._load is None:
            return
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self._load)
        use = self._load / self._load.sum()
        self.bias += speed * (use.mean() - use)
        self._load = None


def _expert(x: Tensor, c: Tensor | float, own: Tensor, w1, b1, w3, b3, w2, b2) -> Tensor:
    """SwiGLU network of curvature ``own`` on points ``(..., n, d)``; weights ``(..., o, d + 1)``."""

    def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        time = lorentz.time(x, own, keepdim=True)
        space = x @ weight[..., 1:].mT
        return space + (time * weight[..., 0].unsqueeze(-2) + bias.unsqueeze(-2))

    x = lorentz.rescale(x, c, own)
    return lorentz.rescale(linear(F.silu(linear(x, w1, b1)) * linear(x, w3, b3), w2, b2), own, c)


def _by_parts(rows, c, curvatures, weights, counts: list[int]) -> Tensor:
    """Sends sorted rows through their experts, one expert after the other."""
    parts = zip(rows.split(counts), curvatures, *(w.unbind() for w in weights))
    return torch.cat([_expert(part, c, *expert) for part, *expert in parts])


def _by_blocks(rows, c, curvatures, weights, expert, counts) -> Tensor:
    """The same in blocks of one expert each, whose number depends on shapes alone.

    Expert e takes ``ceil(counts[e] / size)`` blocks; all together at most ``len(rows) / size + E``.
    """
    total, num = len(rows), len(counts)
    size = max(16, 2 ** round(math.log2(max(total / (4 * num), 1))))
    blocks = total // size + num
    room = (counts + size - 1) // size * size
    ends = room.cumsum(0)
    shift = (ends - room) - (counts.cumsum(0) - counts)
    place = torch.arange(total, device=rows.device) + shift[expert]
    laid = rows.new_zeros(blocks * size, rows.shape[-1]).index_copy(0, place, rows)
    starts = torch.arange(blocks, device=rows.device) * size
    owner = torch.searchsorted(ends, starts, right=True).clamp_max(num - 1)
    own = curvatures[owner].view(-1, 1, 1)
    laid = _expert(laid.unflatten(0, (blocks, size)), c, own, *(w[owner] for w in weights))
    return laid.flatten(0, 1).index_select(0, place)
