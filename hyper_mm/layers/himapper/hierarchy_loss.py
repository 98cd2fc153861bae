"""Where the hierarchy is hyperbolic: the lift of nodes and the contrastive loss between levels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hyper_mm.ops import entailment, lorentz
from hyper_mm.ops.stable import safe_norm

from ..common.curvature import Curvature, LogParameter

MANIFOLDS = ('lorentz', 'euclidean')


class LorentzLift(nn.Module):
    r"""Lifts node features to the hyperboloid.

    .. math:: u = \alpha W s,\qquad h = \exp_0(u) = \frac{\sinh(\sqrt c \lVert u \rVert)}
        {\sqrt c \lVert u \rVert} u

    It returns the tangent vectors ``u``: distances are exact from them
    (:func:`hyper_mm.ops.lorentz.pairwise_dist_tangent0`) where points have already lost their
    digits. The scale ``alpha``, which the paper does not have, starts the radii near 0.5; without
    it ``W s`` starts at radius 6, where all distances saturate.

    Nodes that are points already, by their space parts, are not lifted: ``u = log_0(s)``.

    Args:
        dim: Feature width d.
        hyp_dim: Width of ``W s``; no ``W`` if None, as the paper writes it.
        manifold: ``'lorentz'``, or ``'euclidean'`` to take ``u`` as flat points, without curvature.
        curvature: Arguments of :class:`hyper_mm.layers.Curvature`.
        alpha_init: Initial scale in (0, 1]; ``hyp_dim ** -0.5`` if None.
        learn_alpha: Train the scale.
        max_radius: Largest scaled radius ``sqrt(c) |u|``; longer vectors are shortened to it, and
            :meth:`forward` says how many. No limit if None.
        points: Nodes are space parts of points of curvature ``-c``: ``W`` and the scale are left
            out, and ``hyp_dim``, ``alpha_init`` and ``learn_alpha`` play no part.

    Raises:
        ValueError: For an unknown manifold, or numbers outside their range.
    """

    def __init__(
        self,
        dim: int,
        hyp_dim: int | None = 128,
        manifold: str = 'lorentz',
        curvature: dict | None = None,
        alpha_init: float | None = None,
        learn_alpha: bool = True,
        max_radius: float | None = 6.0,
        points: bool = False,
    ):
        super().__init__()
        if manifold not in MANIFOLDS:
            raise ValueError(f'manifold must be one of {MANIFOLDS}, got {manifold!r}')
        if points and manifold != 'lorentz':
            raise ValueError(f"points=True needs manifold='lorentz', got {manifold!r}")
        if max_radius is not None and not max_radius > 0:
            raise ValueError(f'max_radius must be positive or None, got {max_radius}')
        self.manifold = manifold
        self.max_radius = max_radius
        self.points = points
        if not points:
            self.proj = nn.Identity()
            if hyp_dim is not None:
                self.proj = nn.Linear(dim, hyp_dim, bias=False)
                nn.init.kaiming_uniform_(self.proj.weight, mode='fan_out')
            alpha_init = (hyp_dim or dim) ** -0.5 if alpha_init is None else alpha_init
            self.alpha = LogParameter(alpha_init, (1e-6, 1.0), learn_alpha, name='alpha')
        self.curvature = Curvature(**(curvature or {})) if manifold == 'lorentz' else None

    def forward(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the tangent vectors at the origin.

        Args:
            nodes: Node features ``(..., d)``.

        Returns:
            Tangent vectors ``(..., hyp_dim)`` of at least float32, and the fraction ``()`` of them
            that ``max_radius`` shortened, without gradient.
        """
        if self.points:
            u = lorentz.logmap0(nodes, self.curvature())
        else:
            u = self.proj(nodes)
            u = (u if u.dtype == torch.float64 else u.float()) * self.alpha()
        if self.max_radius is None:
            return u, u.new_zeros(())
        c = self.curvature() if self.curvature is not None else 1.0
        radius = c**0.5 * safe_norm(u, keepdim=True)
        far = radius > self.max_radius
        u = u * torch.where(far, self.max_radius / torch.where(far, radius, 1), 1)
        return u, far.detach().to(u.dtype).mean()

    def pairwise_dist(self, u: Tensor, v: Tensor) -> Tensor:
        """Distances of all pairs ``(..., n, m)`` of lifted nodes."""
        if self.manifold == 'euclidean':
            return euclidean_pairwise_dist(u, v)
        return lorentz.pairwise_dist_tangent0(u, v, self.curvature())

    def cone_energies(self, u: Tensor, nodes: tuple[int, ...]) -> Tensor:
        """How far the nodes are outside the entailment cones of their parents.

        Args:
            u: Lifted nodes of all levels ``(B, sum(N_l), hyp_dim)``, leaves first.
            nodes: Nodes of each level.

        Returns:
            Violations ``(B, sum(N_l) - N_L)`` in radians, 0 inside the cone.
        """
        levels = u.split(nodes, 1)
        children = torch.cat(levels[:-1], 1)
        parents = torch.cat(
            [
                above.repeat_interleave(below.shape[1] // above.shape[1], 1)
                for below, above in zip(levels, levels[1:])
            ],
            1,
        )
        if self.manifold == 'euclidean':
            angle = entailment.euclidean_exterior_angle(parents, children)
            return entailment.cone_energy(angle, entailment.euclidean_half_aperture(parents))
        c = self.curvature()
        parents, children = lorentz.expmap0(parents, c), lorentz.expmap0(children, c)
        angle = entailment.lorentz_exterior_angle(parents, children, c)
        return entailment.cone_energy(angle, entailment.lorentz_half_aperture(parents, c))


def euclidean_pairwise_dist(x: Tensor, y: Tensor) -> Tensor:
    """Flat distances of all pairs, with gradient 0 for coincident points.

    Args:
        x: Points ``(..., n, d)``.
        y: Points ``(..., m, d)``.

    Returns:
        Distances ``(..., n, m)``.
    """
    return safe_norm(x.unsqueeze(-2) - y.unsqueeze(-3))


def official_expmap0(u: Tensor) -> Tensor:
    r"""The exponential map of the released Hi-Mapper code, for parity only.

    It takes element 0 as a time part (:math:`r^2 = -u_0^2 + \sum_i u_i^2`), clamps the radius at
    1.5 and ignores the curvature; the loss then reads all its numbers as space parts.

    Args:
        u: Lifted nodes ``(..., d)``.

    Returns:
        ``(..., d)``.
    """
    norm = (u[..., 1:].square().sum(-1, keepdim=True) - u[..., :1].square()).clamp_min(1e-9).sqrt()
    short = norm.clamp_max(1.5)
    out = short.sinh() * u / norm
    return torch.cat([out[..., :1] + short.cosh(), out[..., 1:]], -1)


class HierarchicalContrastiveLoss(nn.Module):
    r"""Pulls nodes to their parent and pushes the nodes of a level apart.

    For node ``i`` of level ``l`` with parent ``p(i)``, distances ``d``, temperature ``tau``:

    .. math:: L = \sum_{l<L} w_l\, \operatorname*{mean}_{b, i} -\log \frac{e^{s\, d(i, p(i))/\tau}}
        {e^{s\, d(i, p(i))/\tau} + \sum_{j \ne i} e^{s\, d(i, j)/\tau}},\qquad s = -1

    The formula and the code of the paper have ``s = +1``, which pushes parents away and collapses
    the level (to NaN in the released code), the opposite of what its text and figures say.

    Args:
        sign: ``s``.
        tau: Temperature.
        include_positive: Keep the positive in the denominator (the paper's formula does not).
        level_weights: ``w_l`` of the level pairs, leaves first; 1 if None.

    Raises:
        ValueError: If ``sign`` is not -1 or 1, or ``tau`` not positive.
    """

    def __init__(
        self,
        sign: int = -1,
        tau: float = 1.0,
        include_positive: bool = True,
        level_weights: tuple[float, ...] | None = None,
    ):
        super().__init__()
        if sign not in (-1, 1):
            raise ValueError(f'sign must be -1 or 1, got {sign}')
        if not tau > 0:
            raise ValueError(f'tau must be positive, got {tau}')
        self.scale = sign / tau
        self.include_positive = include_positive
        self.level_weights = level_weights

    def weights_of(self, num_levels: int) -> tuple[float, ...]:
        """Weights of the pairs of so many levels.

        Raises:
            ValueError: If ``level_weights`` do not fit.
        """
        if self.level_weights is None:
            return (1.0,) * (num_levels - 1)
        if len(self.level_weights) != num_levels - 1:
            raise ValueError(
                f'level_weights must have {num_levels - 1} entries, one for each pair of levels, '
                f'got {self.level_weights}'
            )
        return tuple(self.level_weights)

    def per_level(self, distances: Tensor, nodes: tuple[int, ...]) -> list[Tensor]:
        """The terms of the sum before weighting.

        Args:
            distances: Distances of all nodes of all levels ``(B, sum(N_l), sum(N_l))``.
            nodes: Nodes of each level, leaves first.

        Returns:
            A 0-dimensional tensor for each pair of levels.
        """
        terms, start = [], 0
        for count, parents in zip(nodes, nodes[1:]):
            level = slice(start, start + count)
            rows = distances[:, level]
            above = start + count + torch.arange(count, device=rows.device) // (count // parents)
            positive = self.scale * rows.gather(2, above.expand(len(rows), -1).unsqueeze(-1))
            own = torch.eye(count, dtype=torch.bool, device=rows.device)
            logits = self.scale * rows[..., level]
            logits = torch.where(own, positive if self.include_positive else -math.inf, logits)
            terms.append((logits.logsumexp(-1) - positive.squeeze(-1)).mean())
            start += count
        return terms

    def forward(self, distances: Tensor, nodes: tuple[int, ...]) -> Tensor:
        """Computes the loss.

        Args:
            distances: Distances of all nodes of all levels ``(B, sum(N_l), sum(N_l))``.
            nodes: Nodes of each level, leaves first.

        Returns:
            A 0-dimensional tensor.

        Raises:
            ValueError: If ``level_weights`` do not fit the levels.
        """
        weights = self.weights_of(len(nodes))
        terms = [w * t for w, t in zip(weights, self.per_level(distances, nodes))]
        return torch.stack(terms).sum() if terms else distances.new_zeros(())
