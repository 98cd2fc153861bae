"""The probabilistic hierarchy tree of Hi-Mapper."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_count, check_positive

INITS = ('pairs', 'tree')


class Queries(NamedTuple):
    """Tree samples of all levels.

    Attributes:
        samples: ``(Q, d)``, leaves first, the samples of a node in consecutive rows.
        nodes: Nodes of each level.
        copies: Samples of each node, by level.
    """

    samples: Tensor
    nodes: tuple[int, ...]
    copies: tuple[int, ...]


class HierarchyTree(nn.Module):
    r"""Binary tree of Gaussians over the feature space; only the leaves are parameters.

    Leaf ``k`` is :math:`\mathcal N(\mu_k, \operatorname{diag} e^{\lambda_k})` with log-variance
    :math:`\lambda`. A parent is the moment-matched Gaussian of its two children,

    .. math:: \mu_p = \tfrac12(\mu_1 + \mu_2), \qquad
        \sigma^2_p = \tfrac12(\sigma^2_1 + \sigma^2_2) + \tfrac14(\mu_1 - \mu_2)^2,

    so every node has exactly the first two moments of the mixture of its leaves.

    Args:
        dim: Feature width d.
        num_leaves: Leaves N, divisible by ``2 ** (num_levels - 1)``.
        num_levels: Levels L; level ``l`` (0 = leaves) has ``N / 2 ** l`` nodes.
        probabilistic: Learn variances and sample; otherwise the nodes are their means.
        mixture: Sample a node from the mixture of its leaves (a leaf is drawn, then its Gaussian)
            instead of from the moment-matched Gaussian.
        max_samples: Most samples of one node: level ``l`` draws ``min(2 ** l, max_samples)``.
        init: ``'pairs'`` as in the official code: siblings are 0.01 apart. ``'tree'``: a leaf is
            the sum of a random vector for itself and one for each ancestor, so that nodes are the
            nearer the closer they are related, and siblings differ.
        spread: Standard deviation of each of these random vectors.
        sigma: Initial standard deviation of the leaves; if None that of the official code (near 1)
            with ``'pairs'`` and 0.1 with ``'tree'``.

    Raises:
        ValueError: If the leaves do not fill the levels, or for values outside their range.

    Source: Kwon et al., Improving Visual Recognition with Hyperbolical Visual Hierarchy Mapping
    (CVPR 2024). The paper writes the standard deviation as learned; its code, and this, the
    log-variance.
    """

    def __init__(
        self,
        dim: int,
        num_leaves: int = 32,
        num_levels: int = 4,
        probabilistic: bool = True,
        mixture: bool = False,
        max_samples: int | None = None,
        init: str = 'pairs',
        spread: float = 0.75,
        sigma: float | None = None,
    ):
        super().__init__()
        check_count(1, num_levels=num_levels)
        check_choice(INITS, init=init)
        check_positive(spread=spread)
        if sigma is not None:
            check_positive(sigma=sigma)
        if num_leaves < 1 or num_leaves % 2 ** (num_levels - 1):
            raise ValueError(
                f'num_leaves must be divisible by 2 ** (num_levels - 1) = {2 ** (num_levels - 1)}, '
                f'got num_leaves={num_leaves} with num_levels={num_levels}'
            )
        if max_samples is not None:
            check_count(1, max_samples=max_samples)
        self.nodes = tuple(num_leaves >> level for level in range(num_levels))
        self.mixture = mixture
        self.max_samples = max_samples
        self.init = init
        self.spread = spread
        self.sigma = 0.1 if sigma is None and init == 'tree' else sigma
        self.mu = nn.Parameter(torch.empty(num_leaves, dim))
        self.logvar = nn.Parameter(torch.empty(num_leaves, dim)) if probabilistic else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initializes the leaves by ``init`` and ``sigma``."""
        count, dim = self.mu.shape
        with torch.no_grad():
            if self.init == 'tree':
                self.mu.zero_()
                for nodes in self.nodes:
                    shared = self.spread * torch.randn(nodes, dim)
                    self.mu.add_(shared.repeat_interleave(count // nodes, 0))
            else:  # a shared center of scale 1.5, apart by 0.01
                centers = 1.5 * torch.randn((count + 1) // 2, dim).repeat_interleave(2, 0)[:count]
                self.mu.copy_(centers + 0.01 * torch.randn(count, dim))
        if self.logvar is None:
            return
        if self.sigma is None:
            nn.init.xavier_uniform_(self.logvar)
        else:
            nn.init.constant_(self.logvar, 2 * math.log(self.sigma))

    @property
    def copies(self) -> tuple[int, ...]:
        """Samples of each node, by level, when sampling."""
        if self.logvar is None:
            return (1,) * len(self.nodes)
        cap = self.max_samples or self.nodes[0]
        return tuple(min(1 << level, cap) for level in range(len(self.nodes)))

    def moments(self) -> list[tuple[Tensor, Tensor | None]]:
        """Mean and variance ``(N_l, d)`` of each level's nodes; no variance if deterministic."""
        mean: Tensor = self.mu
        var = None if self.logvar is None else self.logvar.exp()
        levels: list[tuple[Tensor, Tensor | None]] = [(mean, var)]
        for _ in self.nodes[1:]:
            left, right = mean[0::2], mean[1::2]  # children 2 n and 2 n + 1 of node n
            mean = (left + right) / 2
            if var is not None:
                var = (var[0::2] + var[1::2]) / 2 + (left - right).square() / 4
            levels.append((mean, var))
        return levels

    def forward(self, sample: bool = True, eps: list[Tensor] | Tensor | None = None) -> Queries:
        """Draws the queries of all levels.

        Args:
            sample: Draw ``copies[l]`` samples of each node; otherwise one query a node, its mean.
                (Equal copies of a mean, in equal number, attend exactly as one does.)
            eps: Standard normal noise of each level ``(N_l * copies[l], d)``, the samples of a node
                in consecutive rows; drawn if None.

        Returns:
            The queries.
        """
        levels = self.moments()
        if not sample or self.logvar is None:
            return Queries(torch.cat([m for m, _ in levels]), self.nodes, (1,) * len(levels))
        drawn = []
        for level, (copies, (mean, var)) in enumerate(zip(self.copies, levels)):
            # mean, var (N_l, d) -> (N_l * copies, d), the samples of a node side by side
            if self.mixture and level:
                # leaves of node n of level l: n * 2 ** l + 0 ... 2 ** l - 1; one is drawn a sample
                leaf = torch.arange(len(mean), device=mean.device)[:, None] << level
                leaf = leaf + torch.randint(1 << level, (len(mean), copies), device=mean.device)
                mean, std = self.mu[leaf.flatten()], (self.logvar[leaf.flatten()] / 2).exp()
            else:
                assert var is not None  # the tree is probabilistic
                mean, std = (x.repeat_interleave(copies, 0) for x in (mean, var.sqrt()))
            noise = torch.randn_like(mean) if eps is None else eps[level]
            drawn.append(mean + std * noise)
        return Queries(torch.cat(drawn), self.nodes, self.copies)

    def kl(self, reduction: str = 'mean') -> Tensor:
        r"""Divergence of the top level from the standard normal distribution.

        .. math:: \tfrac12 \sum (\mu^2 + \sigma^2 - 1 - \log \sigma^2)

        Args:
            reduction: ``'mean'`` over nodes and dimensions (the official code) or ``'sum'`` (the
                paper).

        Returns:
            A 0-dimensional tensor; 0 for a deterministic tree.
        """
        mean, var = self.moments()[-1]
        if var is None:
            return self.mu.new_zeros(())
        terms = (mean.square() + var - 1 - var.log()) / 2
        return terms.sum() if reduction == 'sum' else terms.mean()
