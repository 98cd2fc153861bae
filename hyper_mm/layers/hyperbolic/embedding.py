"""Embedding of the nodes of a graph as points of the hyperboloid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import check_count, check_positive
from ...ops import lorentz
from ..common.curvature import Curvature, curvature_options


class HyperbolicEmbedding(nn.Module):
    """Points of items, kept as tangent vectors at the origin: any optimizer may train them.

    Args:
        num: Number of items.
        dim: Dimension of the space.
        curvature: Initial ``c``, or arguments of :class:`hyper_mm.layers.Curvature`; fixed if it is
            not said to be learnable.
        spread: Standard deviation of the vectors at initialization.

    Raises:
        ValueError: For numbers outside their range.
    """

    def __init__(
        self,
        num: int,
        dim: int,
        curvature: float | Mapping[str, Any] | None = None,
        spread: float = 0.01,
    ):
        super().__init__()
        check_count(1, num=num, dim=dim)
        check_positive(spread=spread)
        self.curvature = Curvature(**curvature_options(curvature, learnable=False))
        self.weight = nn.Parameter(spread * torch.randn(num, dim))

    def forward(self, index: Tensor | None = None) -> Tensor:
        """Returns points ``(..., dim)`` of items ``(...)``; of all items if None."""
        v = self.weight if index is None else self.weight[index]
        return lorentz.expmap0(v, self.curvature())

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances ``(...)`` of the items ``a`` ``(...)`` and ``b``, broadcast."""
        return lorentz.dist_tangent0(self.weight[a], self.weight[b], self.curvature())

    def pairwise(self) -> Tensor:
        """Distances ``(num, num)`` of all items."""
        return lorentz.pairwise_dist_tangent0(self.weight, self.weight, self.curvature())

    def extra_repr(self) -> str:
        return f'{self.weight.shape[0]}, {self.weight.shape[1]}'


def tree_distances(parents: Tensor) -> Tensor:
    """Numbers of edges between all nodes of a tree.

    Args:
        parents: Parent ``(n,)`` of each node, before it in the order; -1 for the root, the first.

    Returns:
        ``(n, n)``, float32.

    Raises:
        ValueError: If a parent does not come before its child, or the first node is no root.
    """
    listed = parents.tolist()
    if not listed or listed[0] != -1 or any(not 0 <= p < i for i, p in enumerate(listed[1:], 1)):
        raise ValueError('parents must be -1 for the first node, and nodes before it for others')
    hops = torch.zeros(len(listed), len(listed))
    for node, parent in enumerate(listed[1:], 1):
        hops[node, :node] = hops[parent, :node] + 1
        hops[:node, node] = hops[node, :node]
    return hops


def embedding_quality(distances: Tensor, hops: Tensor) -> tuple[float, float]:
    r"""Mean distortion and mean average precision of an embedded graph.

    .. math:: D = \frac{1}{n (n - 1)} \sum_{i \ne j} \frac{|d_{ij} / s - h_{ij}|}{h_{ij}}

    with the scale ``s`` that makes the mean of ``d / (s h)`` 1. The precision is that of finding
    the neighbors of a node (``h = 1``) among the nodes nearest to it.

    Args:
        distances: ``(n, n)``.
        hops: Numbers of edges ``(n, n)``.

    Returns:
        ``D``, and the precision in [0, 1].

    Source: Sala et al., Representation Tradeoffs for Hyperbolic Embeddings (ICML 2018).
    """
    n = len(hops)
    apart = ~torch.eye(n, dtype=torch.bool)
    ratio = (distances / hops.clamp_min(1))[apart]
    distortion = (ratio / ratio.mean() - 1).abs().mean().item()
    order = distances.masked_fill(~apart, torch.inf).argsort(1)
    near = (hops == 1).gather(1, order).double()
    rank = torch.arange(1, n + 1, dtype=torch.float64)
    precision = (near.cumsum(1) / rank * near).sum(1) / near.sum(1).clamp_min(1)
    return distortion, precision.mean().item()
