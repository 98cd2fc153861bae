"""The Hi-Mapper module: tree, decomposer, lift, losses and encoder."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hyper_mm.ops import lorentz

from ...checks import check_choice, check_not_negative
from ..common.curvature import curvature_options
from ..common.gather import gather_batch
from .contrastive_loss import HierarchicalContrastiveLoss
from .decomposer import HierarchyDecomposer, Nodes
from .encoder import HierarchyEncoder
from .lift import LorentzLift
from .official import official_expmap0
from .options import GROUPS, RECIPES, grouped_options, level_radii
from .structure_loss import TERMS, StructureLoss
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


def used_nodes(assignment: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Which nodes an image uses: those to which some position belongs more than to any other.

    Args:
        assignment: Assignment of positions ``(B, N_l, M)`` of each level.

    Returns:
        Boolean ``(B, N_l)`` of each level.
    """
    return tuple(
        torch.zeros_like(share[..., 0], dtype=torch.bool).scatter(1, share.argmax(1), True)
        for share in assignment
    )


class HierarchyMapper(nn.Module):
    r"""Hi-Mapper: finds the visual hierarchy of a feature map and enriches a global token by it.

    .. math:: S_{1..L} = D(v_{map}, T),\qquad \hat v = v_{cls} + G(v_{cls}, S_{1..L}),\qquad
        L = \alpha L_{cont} + \beta L_{KL}

    Defaults are the recommended readings where paper and official code differ (the docstrings of
    the parts say where); ``compat='official'`` computes the losses as in the official code.

    Args:
        dim: Feature width d.
        width: Hidden width.
        num_heads: Attention heads.
        dropout: Dropout.
        cross_scale: Scale of the decomposer's cross-attention logits; None for the usual one.
        competition: Let the nodes of a level compete for positions (not in the paper).
        tree: Options of the tree: ``num_leaves`` (32), ``num_levels`` (4), ``probabilistic``
            (Gaussian nodes that are sampled in training), ``mixture``, ``max_samples``, ``init``,
            ``spread`` and ``sigma``, see :class:`HierarchyTree`; ``bottom_up``, see
            :class:`HierarchyDecomposer`.
        lift: Options of the lift: ``hyp_dim`` (128), ``manifold``, ``curvature``, ``alpha_init``
            and ``max_radius``, see :class:`LorentzLift`; ``radii``: ``'free'``, ``'level'`` for a
            scaled radius of 1 at the top and 1 more at each level below, or one a level, leaves
            first.
        loss: Options of the losses: the weights ``contrastive`` (alpha; 0 leaves it out, as a
            single level does) and ``kl`` (beta), ``kl_reduction``: ``'mean'`` (official code) or
            ``'sum'`` (the paper); ``sign``, ``tau``, ``include_positive``, ``level_weights`` and
            ``across_images``, see :class:`HierarchicalContrastiveLoss`; the weights
            ``reconstruction``, ``balance``, ``containment`` and ``entailment``, see
            :class:`StructureLoss`.
        encode: Build the encoder; without it the tokens stay as they are.
        encode_samples: Feed the samples of the nodes to the encoder instead of the nodes.
        residual: Add the token to its update.
        zero_init_out: Initialize the output projection to zero, so that the update is zero.
        test_mode: ``'mean'`` (deterministic) or ``'sample'`` (official code) in evaluation.
        points: Features are space components of points of the hyperboloid, as of ``LorentzViT``.
            The nodes are points too and are not lifted again, and the centroid replaces the mean.
            ``hyp_dim``, ``alpha_init`` and ``radii`` are ignored; ``curvature`` must be that of
            the features, and is fixed by default.
        recipe: What is left open: ``'paper'`` reads the paper as written; ``'recommended'`` is an
            objective that has to look at the image (``competition``, ``tree.bottom_up``,
            ``tree.init='tree'``, deterministic nodes, ``lift.radii='level'``,
            ``loss.across_images``, ``loss.balance``, ``zero_init_out``).
        compat: ``'official'`` for the losses of the official code: sign +1, its exponential map,
            and neither a scale nor a largest radius in the lift. Needs ``recipe='paper'``.
        **flat: Options of the groups by their flat names of before, with a DeprecationWarning.

    Raises:
        ValueError: For values outside their range, each with its name.
        TypeError: For options that do not exist, or that are there under two names.

    Source: Kwon et al., Improving Visual Recognition with Hyperbolical Visual Hierarchy Mapping
    (CVPR 2024, arXiv 2404.00974).
    """

    more_arguments = frozenset().union(*GROUPS.values())  # by their flat names of before

    def __init__(
        self,
        dim: int,
        *,
        width: int = 128,
        num_heads: int = 4,
        dropout: float = 0.1,
        cross_scale: float | None = 1 / 0.07,
        competition: bool | None = None,
        tree: dict | None = None,
        lift: dict | None = None,
        loss: dict | None = None,
        encode: bool = True,
        encode_samples: bool = False,
        residual: bool = True,
        zero_init_out: bool | None = None,
        test_mode: str = 'mean',
        points: bool = False,
        recipe: str = 'paper',
        compat: str | None = None,
        **flat: Any,
    ):
        super().__init__()
        check_choice(RECIPES, recipe=recipe)
        options = grouped_options(dict(tree=tree, lift=lift, loss=loss, **flat))
        groups = {name: RECIPES[recipe][name] | options.pop(name, {}) for name in GROUPS}
        if options:
            name = min(options)
            raise TypeError(
                f'HierarchyMapper.__init__() got an unexpected keyword argument {name!r}'
            )
        tree, lift, loss = groups['tree'], groups['lift'], groups['loss']
        competition = RECIPES[recipe]['competition'] if competition is None else competition
        if zero_init_out is None:
            zero_init_out = RECIPES[recipe]['zero_init_out']
        contrastive_weight, kl_weight = loss.pop('contrastive'), loss.pop('kl')
        kl_reduction = loss.pop('kl_reduction', 'mean')
        check_choice(('mean', 'sample'), test_mode=test_mode)
        check_choice(('mean', 'sum'), kl_reduction=kl_reduction)
        check_choice((None, 'official'), compat=compat)
        check_not_negative(contrastive_weight=contrastive_weight, kl_weight=kl_weight)
        manifold = lift.get('manifold', 'lorentz')
        if compat == 'official':
            if manifold != 'lorentz':
                raise ValueError(f"compat='official' needs manifold='lorentz', got {manifold!r}")
            if points:
                raise ValueError("compat='official' lifts the nodes: it needs points=False")
            if recipe != 'paper':
                raise ValueError(f"compat='official' needs recipe='paper', got {recipe!r}")
            loss = {'sign': 1, **loss}
        bottom_up = tree.pop('bottom_up')
        if bottom_up and encode_samples:
            raise ValueError('encode_samples needs tree.bottom_up=False: nodes have no samples')
        self.test_mode = test_mode
        self.encode_samples = encode_samples
        self.residual = residual
        self.recipe = recipe
        self.compat = compat
        self.tree = HierarchyTree(dim, **tree)
        num_levels = len(self.tree.nodes)
        self.contrastive_weight = contrastive_weight
        self.kl_weight = kl_weight if self.tree.logvar is not None else 0.0
        self.kl_reduction = kl_reduction
        self.decomposer = HierarchyDecomposer(
            dim, width, num_heads, cross_scale, dropout, competition, bottom_up
        )
        self.encoder = None
        if encode:
            self.encoder = HierarchyEncoder(
                dim, num_levels, width, num_heads, dropout, zero_init_out
            )
        self.structure = StructureLoss(**{name: loss.pop(name, 0.0) for name in TERMS})
        self.lift: LorentzLift | None = None
        self.contrast: HierarchicalContrastiveLoss | None = None
        self.points = points
        radii = level_radii(lift.pop('radii'), num_levels)
        if points:
            lift['curvature'] = curvature_options(lift.get('curvature'), learnable=False)
            lift['points'] = True
        elif radii is not None:
            lift['radii'] = [r for r, count in zip(radii, self.tree.nodes) for _ in range(count)]
        needs_lift = contrastive_weight > 0 or self.structure.needs_lift
        if points or (num_levels > 1 and needs_lift):
            if compat == 'official':
                lift |= dict(alpha_init=1.0, learn_alpha=False, max_radius=None)
            self.lift = LorentzLift(dim, **lift)
        if num_levels > 1 and contrastive_weight > 0:
            self.contrast = HierarchicalContrastiveLoss(**loss)
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
            largest radius), ``radius_l`` (mean scaled radius of level l, 1 = leaves), and with an
            assignment ``used_l`` (mean number of nodes of level l that an image uses).
        """
        losses, diagnostics, energies, parts = {}, {}, None, [*levels]
        if self.lift is not None and len(levels) > 1:
            u, capped = self.lift(torch.cat(levels, 1))
            if self.contrast is not None:
                distances = self._distances(self.lift, u)
                parts.append(distances)
                across = self._across_images(self.lift, u) if self.contrast.across_images else None
                loss = self.contrast(distances, self.tree.nodes, across)
                losses['cont'] = self.contrastive_weight * loss
            if self.structure.needs_lift:
                energies = self.lift.cone_energies(u, self.tree.nodes)
            diagnostics = self._diagnostics(self.lift, u.detach(), capped)
        if self.kl_weight > 0:
            losses['kl'] = self.kl_weight * self.tree.kl(self.kl_reduction)
        losses |= self.structure(levels, assignment, memory, energies)
        if assignment is not None:
            diagnostics |= {
                f'used_{level}': used.sum(1).float().mean()
                for level, used in enumerate(used_nodes(assignment), 1)
            }
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

    def _across_images(self, lift: LorentzLift, u: Tensor) -> tuple[Tensor, Tensor]:
        """Distances of each node but the top ones to itself in all images; which are others."""
        rows = u[:, : -self.tree.nodes[-1]]  # (B, n, h)
        batch, first = gather_batch(rows)  # (K, n, h)
        distances = lift.pairwise_dist(rows.transpose(0, 1), batch.transpose(0, 1))  # (n, B, K)
        own = first + torch.arange(len(u), device=u.device)
        is_other = own.unsqueeze(1) != torch.arange(len(batch), device=u.device)
        return distances.transpose(0, 1), is_other

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
