"""The Hi-Mapper module: tree, decomposer, lift, losses and encoder."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hyper_mm.ops import lorentz

from ...checks import check_choice, check_not_negative
from ..common.curvature import curvature_options
from .contrastive_loss import HierarchicalContrastiveLoss
from .decomposer import HierarchyDecomposer, Nodes
from .encoder import HierarchyEncoder
from .lift import LorentzLift
from .official import official_expmap0
from .structure_loss import StructureLoss
from .tree import HierarchyTree, Queries


class Hierarchy(NamedTuple):
    """What :class:`HierarchyMapper` finds in a batch of images.

    Attributes:
        levels: Node features ``(B, N_l, d)`` of each level, leaves first.
        update: Encoded hierarchy :math:`v^L` of the tokens ``(B, T, d)``; None without encoder.
        token: Enhanced tokens ``(B, T, d)``: ``token + update``, or ``update`` without residual.
        assignment: To which node of a level each position belongs, ``(B, N_l, M)``; None unless
            asked for.
        queries: The tree samples that found it.
    """

    levels: tuple[Tensor, ...]
    update: Tensor | None
    token: Tensor
    assignment: tuple[Tensor, ...] | None = None
    queries: Queries | None = None


class HierarchyMapper(nn.Module):
    r"""Hi-Mapper: finds the visual hierarchy of a feature map and enriches a global token by it.

    .. math:: S_{1..L} = D(v_{map}, T),\qquad \hat v = v_{cls} + G(v_{cls}, S_{1..L}),\qquad
        L = \alpha L_{cont} + \beta L_{KL}

    Defaults are the recommended readings where paper and official code differ (the docstrings of
    the parts say where); ``compat='official'`` computes the losses as in the official code.

    Args:
        dim: Feature width d.
        num_leaves: Leaves of the tree.
        num_levels: Levels of the tree.
        width: Hidden width.
        num_heads: Attention heads.
        dropout: Dropout.
        cross_scale: Scale of the decomposer's cross-attention logits; None for the usual one.
        hyp_dim: Width of the lift; None for the feature width without a projection.
        manifold: ``'lorentz'`` or ``'euclidean'``.
        curvature: Initial ``c``, or arguments of :class:`Curvature` (``init``, ``bounds``,
            ``learnable``).
        alpha_init: Initial scale of the lift; ``hyp_dim ** -0.5`` if None.
        max_radius: Largest scaled radius of the lift.
        probabilistic: Gaussian nodes that are sampled in training.
        mixture: Sample nodes from the mixture of their leaves.
        max_samples: Most samples of one node.
        test_mode: ``'mean'`` (deterministic) or ``'sample'`` (official code) in evaluation.
        encode: Build the encoder; without it the tokens stay as they are.
        encode_samples: Feed the samples of the nodes to the encoder instead of the nodes.
        residual: Add the token to its update.
        zero_init_out: Initialize the output projection to zero, so that the update is zero.
        contrastive: Arguments of :class:`HierarchicalContrastiveLoss`.
        contrastive_weight: Weight alpha of the contrastive loss; 0 leaves it out, as a single level
            does.
        kl_weight: Weight beta of the KL loss; 0 leaves it out.
        kl_reduction: ``'mean'`` (official code) or ``'sum'`` (the paper).
        competition: Let the nodes of a level compete for positions (not in the paper).
        structure: Weights of :class:`StructureLoss` (``reconstruction``, ``balance``,
            ``containment``, ``entailment``), all 0 by default (not in the paper).
        points: Features are space components of points of the hyperboloid, as of ``LorentzViT``.
            The nodes are points too and are not lifted again, and the centroid replaces the mean.
            ``hyp_dim`` and ``alpha_init`` are ignored; ``curvature`` must be that of the features,
            and is fixed by default.
        compat: ``'official'`` for the losses of the official code: sign +1, its exponential map,
            and neither a scale nor a largest radius in the lift.

    Raises:
        ValueError: For values outside their range, each with its name.

    Source: Kwon et al., Improving Visual Recognition with Hyperbolical Visual Hierarchy Mapping
    (CVPR 2024, arXiv 2404.00974).
    """

    def __init__(
        self,
        dim: int,
        num_leaves: int = 32,
        num_levels: int = 4,
        width: int = 128,
        num_heads: int = 4,
        dropout: float = 0.1,
        cross_scale: float | None = 1 / 0.07,
        hyp_dim: int | None = 128,
        manifold: str = 'lorentz',
        curvature: float | dict | None = None,
        alpha_init: float | None = None,
        max_radius: float | None = 6.0,
        probabilistic: bool = True,
        mixture: bool = False,
        max_samples: int | None = None,
        test_mode: str = 'mean',
        encode: bool = True,
        encode_samples: bool = False,
        residual: bool = True,
        zero_init_out: bool = False,
        contrastive: dict | None = None,
        contrastive_weight: float = 0.1,
        kl_weight: float = 0.01,
        kl_reduction: str = 'mean',
        competition: bool = False,
        structure: dict | None = None,
        points: bool = False,
        compat: str | None = None,
    ):
        super().__init__()
        check_choice(('mean', 'sample'), test_mode=test_mode)
        check_choice(('mean', 'sum'), kl_reduction=kl_reduction)
        check_choice((None, 'official'), compat=compat)
        check_not_negative(contrastive_weight=contrastive_weight, kl_weight=kl_weight)
        if compat == 'official':
            if manifold != 'lorentz':
                raise ValueError(f"compat='official' needs manifold='lorentz', got {manifold!r}")
            if points:
                raise ValueError("compat='official' lifts the nodes: it needs points=False")
            contrastive = {'sign': 1, **(contrastive or {})}
        self.test_mode = test_mode
        self.encode_samples = encode_samples
        self.residual = residual
        self.contrastive_weight = contrastive_weight
        self.kl_weight = kl_weight if probabilistic else 0.0
        self.kl_reduction = kl_reduction
        self.compat = compat
        self.tree = HierarchyTree(dim, num_leaves, num_levels, probabilistic, mixture, max_samples)
        self.decomposer = HierarchyDecomposer(
            dim, width, num_heads, cross_scale, dropout, competition
        )
        self.encoder = None
        if encode:
            self.encoder = HierarchyEncoder(
                dim, num_levels, width, num_heads, dropout, zero_init_out
            )
        self.structure = StructureLoss(**(structure or {}))
        self.lift: LorentzLift | None = None
        self.contrast: HierarchicalContrastiveLoss | None = None
        self.points = points
        if points:
            curvature = curvature_options(curvature, learnable=False)
        needs_lift = contrastive_weight > 0 or self.structure.needs_lift
        if points or (num_levels > 1 and needs_lift):
            if compat == 'official':
                lift: dict[str, Any] = dict(alpha_init=1.0, learn_alpha=False, max_radius=None)
            else:
                lift = dict(alpha_init=alpha_init, max_radius=max_radius, points=points)
            self.lift = LorentzLift(dim, hyp_dim, manifold, curvature, **lift)
        if num_levels > 1 and contrastive_weight > 0:
            self.contrast = HierarchicalContrastiveLoss(**(contrastive or {}))
            self.contrast.weights_of(num_levels)

    def queries(self, eps: list[Tensor] | Tensor | None = None) -> Queries:
        """Tree queries of the current mode: samples in training, means in evaluation."""
        sample = self.training or self.test_mode == 'sample' or eps is not None
        return self.tree(sample, eps)

    def pool(self, memory: Tensor) -> Tensor:
        """Global token ``(B, 1, d)`` of features ``(B, M, d)``: their mean, or their centroid."""
        if not self.points:
            return memory.mean(1, keepdim=True)
        assert self.lift is not None  # points always have one
        return lorentz.centroid(memory, c=self.lift.c()).unsqueeze(1).to(memory.dtype)

    def decompose(
        self, memory: Tensor, queries: Queries | None = None, with_assignment: bool = False
    ) -> Nodes:
        """Finds the nodes alone.

        Args:
            memory: Feature map as tokens ``(B, M, d)``.
            queries: Tree samples; new ones if None.
            with_assignment: Find the assignment of positions to nodes, too; so do the losses that
                need it, in training.

        Returns:
            Nodes, with samples where the encoder wants them.
        """
        with_assignment |= self.training and self.structure.needs_assignment
        queries = self.queries() if queries is None else queries
        return self.decomposer(memory, queries, self.encode_samples, with_assignment)

    def forward(
        self,
        memory: Tensor,
        token: Tensor,
        eps: list[Tensor] | Tensor | None = None,
        with_assignment: bool = False,
    ) -> Hierarchy:
        """Finds the hierarchy.

        Args:
            memory: Feature map as tokens ``(B, M, d)``, class tokens excluded.
            token: Global tokens ``(B, T, d)``.
            eps: Noise of the tree samples, see :meth:`HierarchyTree.forward`.
            with_assignment: Find the assignment of positions to nodes, too.

        Returns:
            Nodes and enhanced tokens.
        """
        queries = self.queries(eps)
        nodes = self.decompose(memory, queries, with_assignment)
        if self.encoder is None:
            return Hierarchy(nodes.levels, None, token, nodes.assignment, queries)
        update = self.encoder(token, nodes.samples if self.encode_samples else nodes.levels)
        enhanced = token + update if self.residual else update
        return Hierarchy(nodes.levels, update, enhanced, nodes.assignment, queries)

    def losses(
        self,
        levels: tuple[Tensor, ...],
        assignment: tuple[Tensor, ...] | None = None,
        memory: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses of the hierarchy.

        Args:
            levels: Node features ``(B, N_l, d)`` of each level.
            assignment: Assignment of positions ``(B, N_l, M)`` of each level, for ``structure``.
            memory: Features ``(B, M, d)``, for ``structure``.

        Returns:
            Weighted losses ``cont``, ``kl`` and those of ``structure``, where they have a weight;
            and diagnostics without gradient: ``curvature``, ``capped`` (fraction of nodes at the
            largest radius), ``radius_l`` (mean scaled radius of level l, 1 = leaves).
        """
        losses, diagnostics, energies, parts = {}, {}, None, [*levels]
        if self.lift is not None and len(levels) > 1:
            u, capped = self.lift(torch.cat(levels, 1))
            if self.contrast is not None:
                distances = self._distances(self.lift, u)
                parts.append(distances)
                losses['cont'] = self.contrastive_weight * self.contrast(distances, self.tree.nodes)
            if self.structure.needs_lift:
                energies = self.lift.cone_energies(u, self.tree.nodes)
            diagnostics = self._diagnostics(self.lift, u.detach(), capped)
        if self.kl_weight > 0:
            losses['kl'] = self.kl_weight * self.tree.kl(self.kl_reduction)
        losses |= self.structure(levels, assignment, memory, energies)
        if not len(levels[0]):  # means over no image: nothing to learn, but the same names
            # a gradient of zero for all parameters
            nothing = sum((part.sum() for part in parts[1:]), parts[0].sum())
            losses = {
                n: loss if n == 'kl' else nothing.to(loss.dtype) for n, loss in losses.items()
            }
            diagnostics = {
                n: x if n == 'curvature' else torch.zeros_like(x) for n, x in diagnostics.items()
            }
        return losses, diagnostics

    def _distances(self, lift: LorentzLift, u: Tensor) -> Tensor:
        if self.compat == 'official':
            h = official_expmap0(u)
            return lorentz.pairwise_dist(h, h, lift.c())
        return lift.pairwise_dist(u, u)

    @torch.no_grad()
    def _diagnostics(self, lift: LorentzLift, u: Tensor, capped: Tensor) -> dict[str, Tensor]:
        out = {'capped': capped}
        radius = torch.linalg.vector_norm(u, dim=-1)
        if lift.curvature is not None:
            c = lift.curvature()
            out['curvature'] = c.detach()
            radius = radius * c.sqrt()
        for level, part in enumerate(radius.split(self.tree.nodes, 1), 1):
            out[f'radius_{level}'] = part.mean()
        return out
