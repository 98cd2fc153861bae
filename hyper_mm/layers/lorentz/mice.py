"""Mixture of curvature experts (HELM)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_count
from ...deprecation import renamed_arguments
from ...ops import lorentz
from ...ops.fused import normalized_sum, to_ambient
from ..common.curvature import Curvature
from ..common.single_numbers import SingleNumbers
from .ffn import LorentzSwiGLU, swiglu
from .norm import lorentz_sum
from .routed_experts import RoutedExperts

_BOUNDS = (0.02, 50.0)


class MiCE(SingleNumbers, RoutedExperts):
    r"""Feed-forward experts, each in a space of its own curvature, summed on the hyperboloid.

    .. math:: z_i = \sqrt{c_i / c}\; \mathrm{FFN}_i\big(\sqrt{c / c_i}\, x\big),\qquad
        u = \sum_{\mathrm{shared}} y_i + \sum_{i \in \mathrm{top}_k} g_i z_i,\qquad
        \mathrm{MiCE}(x) = \frac{u_s}{\sqrt{-c \langle u, u \rangle_{\mathcal L}}}

    with gates :math:`g` renormalized over the chosen experts. Tokens are sorted by expert: on
    accelerators they are laid out in blocks of one expert each, so that no shape waits for a count.
    The printed formula drops ``g`` and the modulus of the norm; the official code never uses the
    curvatures it computes for its experts.

    **These curvatures are no degree of freedom.** Homotheties commute with all of the network but
    its gate, so an expert of curvature :math:`c_i` with weights :math:`W_1, b_2, b_3` is one of
    curvature c with :math:`s W_1,\; b_2 / s,\; b_3 / s`, where :math:`s = \sqrt{c / c_i}`: whatever
    a mixture of curvatures computes, one of equal curvatures does, too. ``transfer`` and ``gates``
    are two ways to make a curvature matter, of our own.

    Args:
        embed_dims: Space dimensions of the points.
        hidden_dims: Hidden space dimensions of an expert.
        num_experts: Number of routed experts.
        top_k: Experts of a token.
        num_shared: Number of experts of all tokens.
        curvatures: Initial curvatures of the first and the last expert, evenly spaced between.
        shared_curvature: Initial curvature of the shared experts; None: that of the input, fixed to
            it, as in the official code.
        learn_curvature: Train these curvatures.
        score: ``'softmax'`` or ``'sigmoid'``.
        renormalize: Gates of a token add up to 1. (The official code does not for softmax.)
        transfer: How points pass to the curvature of an expert and back: ``'homothety'`` as above,
            or ``'tangent'``, by the same tangent vector at the origin, which keeps the distance to
            it: :math:`\exp^{c_i}_0 \circ \log^{c}_0`.
        gates: ``'linear'``: scores of experts are linear in the space components;
            ``'distance'``: minus the distance of the tangent vectors of token and expert, each
            taken to the hyperboloid of the expert's curvature. ``gate`` are then the tangent
            vectors of the experts.
        combine: ``'centroid'`` as above, or ``'sequential'``, the official code: experts in the
            order of their indices are added to the origin, ``y <- 2 (y + g e_i)``, and the result
            to the shared expert by a learned residual connection.
        balance_weight: Weight of the balance loss; see :class:`RoutedExperts`.

    Raises:
        ValueError: If ``top_k`` exceeds ``num_experts``, or another argument is out of range.
    """

    numbers = ('out_weight', 'out_log_scale')

    w1: Tensor
    w2: Tensor
    w3: Tensor
    b1: Tensor
    b2: Tensor
    b3: Tensor

    @renamed_arguments(dims='embed_dims', renormalise='renormalize')
    def __init__(
        self,
        embed_dims: int,
        hidden_dims: int,
        num_experts: int = 4,
        top_k: int = 2,
        num_shared: int = 1,
        curvatures: tuple[float, float] = (0.1, 2.0),
        shared_curvature: float | None = 1.0,
        learn_curvature: bool = True,
        score: str = 'softmax',
        renormalize: bool = True,
        combine: str = 'centroid',
        balance_weight: float = 1e-4,
        transfer: str = 'homothety',
        gates: str = 'linear',
    ):
        super().__init__(embed_dims, num_experts, top_k, score, renormalize, balance_weight)
        check_choice(('centroid', 'sequential'), combine=combine)
        if num_shared < 0 or (combine == 'sequential' and num_shared != 1):
            raise ValueError(f"num_shared must be at least 0, 1 if 'sequential', got {num_shared}")
        check_count(1, hidden_dims=hidden_dims)
        if len(curvatures) != 2:
            raise ValueError(
                f'curvatures must be those of the first and the last expert, got {curvatures}'
            )
        check_choice(('homothety', 'tangent'), transfer=transfer)
        check_choice(('linear', 'distance'), gates=gates)
        self.combine, self.transfer, self.gates = combine, transfer, gates
        shapes = {
            '1': (hidden_dims, embed_dims),
            '3': (hidden_dims, embed_dims),
            '2': (embed_dims, hidden_dims),
        }
        for name, (rows, columns) in shapes.items():
            weight = torch.empty(num_experts, rows, columns + 1)
            for part in weight:
                nn.init.xavier_uniform_(part, gain=math.sqrt(2))
            self.register_parameter(f'w{name}', nn.Parameter(weight))
            self.register_parameter(f'b{name}', nn.Parameter(torch.zeros(num_experts, rows)))
        self.shared = nn.ModuleList(
            LorentzSwiGLU(embed_dims, hidden_dims) for _ in range(num_shared)
        )
        first, last = curvatures
        steps = [i / max(num_experts - 1, 1) for i in range(num_experts)]
        self.curvatures = nn.ModuleList(
            Curvature(first + (last - first) * s, _BOUNDS, learn_curvature) for s in steps
        )
        own = [] if shared_curvature is None else [shared_curvature] * num_shared
        self.shared_curvatures = nn.ModuleList(
            Curvature(init, _BOUNDS, learn_curvature) for init in own
        )
        if combine == 'sequential':
            self.out_weight = nn.Parameter(torch.ones(1))
            self.out_log_scale = nn.Parameter(torch.tensor([math.log(2)]))

    def forward(self, x: Tensor, c: Tensor | float, counted: Tensor | None = None) -> Tensor:
        """Maps points to points.

        Args:
            x: Points ``(..., embed_dims)``.
            c: Their curvature.
            counted: Which points count for the balance, bool ``(...)``; see :meth:`route`.

        Returns:
            Points ``(..., embed_dims)`` of the same curvature.
        """
        shape, x = x.shape, to_ambient(x, c).flatten(0, -2)
        logits = self.distances(x[:, 1:], c).neg() if self.gates == 'distance' else None
        routing = self.route(x[:, 1:], counted, logits)
        owns = [curvature() for curvature in self.shared_curvatures] or [None] * len(self.shared)
        networks = cast('list[LorentzSwiGLU]', [*self.shared])
        if self.transfer == 'tangent' and self.shared_curvatures:
            shared = [by_tangents(x, c, own, ffn.map) for ffn, own in zip(networks, owns)]
        else:
            shared = [ffn.map(x, c, own) for ffn, own in zip(networks, owns)]
        indices, gates = routing.indices, routing.gates
        if self.combine == 'sequential':
            indices, rank = indices.sort(-1)
            gates = gates.gather(-1, rank)
        routed = self.experts(x, c, indices, routing.counts).unbind(1)
        gates = gates.split(1, -1)
        if self.combine == 'centroid':
            points = [*shared, *routed]
            if shared:
                weights = [*[gates[0].new_ones(())] * (len(shared) - 1), *gates]
            else:  # a centroid knows the ratios of its weights alone
                weights = [gate / gates[0] for gate in gates[1:]]
            out = normalized_sum(points, weights, c) if weights else points[0]
        else:
            out = torch.zeros_like(routed[0])
            for y, gate in zip(routed, gates):
                out = lorentz_sum(out, y, gate, c, 2.0)
            out = lorentz_sum(shared[0], out, self.out_weight, c, self.out_log_scale.exp())
        return out.reshape(shape)

    def experts(self, x: Tensor, c: Tensor | float, indices: Tensor, counts: Tensor) -> Tensor:
        """Results ``(T, k, embed_dims)`` of the experts ``indices`` for T ambient points."""
        own = torch.stack([curvature() for curvature in self.curvatures]).view(-1, 1, 1)
        biases = (b.unsqueeze(1) for b in (self.b1, self.b2, self.b3))
        weights = (self.w1, self.w2, self.w3)
        expert = partial(_expert if self.transfer == 'homothety' else _tangent_expert, c)
        return self.dispatch(x, indices, counts, expert, (own, *weights, *biases))

    def distances(self, x: Tensor, c: Tensor | float) -> Tensor:
        """Distances ``(T, E)`` of points ``(T, embed_dims)`` to the points of the experts."""
        own = torch.stack([curvature() for curvature in self.curvatures]).view(-1, 1, 1)
        with torch.autocast(x.device.type, enabled=False):  # as in route()
            tangents, places = lorentz.logmap0(x, c), self.gate.unsqueeze(1)  # (T, d), (E, 1, d)
            found = lorentz.pairwise_dist_tangent0(tangents.unsqueeze(0), places, own)  # (E, T, 1)
        return found.squeeze(-1).t()


def _expert(c: Tensor | float, x: Tensor, own: Tensor, w1, w2, w3, b1, b2, b3) -> Tensor:
    """Network of an expert; ambient points ``(..., n, 1 + d)``, weights ``(..., o, 1 + d)``."""
    return swiglu(x, c, own, (w1, w2, w3), (b1, b2, b3))


def _tangent_expert(c: Tensor | float, x: Tensor, own: Tensor, w1, w2, w3, b1, b2, b3) -> Tensor:
    """The same, of points that keep their tangent vectors on the way to the expert and back."""

    def network(y: Tensor, own: Tensor) -> Tensor:
        return swiglu(y, own, None, (w1, w2, w3), (b1, b2, b3))

    return by_tangents(x, c, own, network)


def by_tangents(
    x: Tensor, c: Tensor | float, own: Tensor, network: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    r"""A map of another hyperboloid, :math:`\exp_0^c \log_0^{c'} f(\exp_0^{c'} \log_0^c x)`.

    Args:
        x: Ambient points ``(..., n, 1 + d)`` of curvature ``-c``.
        c: Their curvature.
        own: Curvature ``c'``: ``()``, or of as many dimensions as ``x``.
        network: Takes ambient points and their curvature ``c'``, returns space components.

    Returns:
        Space components ``(..., n, d)`` of points of curvature ``-c``.
    """
    inside = lorentz.expmap0(lorentz.logmap0(x[..., 1:], c), own)
    return lorentz.expmap0(lorentz.logmap0(network(to_ambient(inside, own), own), own), c)
