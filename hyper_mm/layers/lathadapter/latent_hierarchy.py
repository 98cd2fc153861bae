"""LatHAdapter: text features refined by learnable attributes, and a latent hierarchy over them."""

from __future__ import annotations

import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import check_choice, check_count, check_not_negative, check_positive
from ...deprecation import renamed_arguments
from ...ops import poincare
from ...ops.inputs import check_curvature, upcast
from ...ops.stable import safe_norm, unit
from .official import RiemannianGradient, official_pairwise_dist

AFFINITIES = ('relu', 'raw', 'softmax')
COMPATS = (None, 'official')
_MIN_DEGREE = 1e-6


def automatic_attributes(num_classes: int) -> int:
    """Number of attributes for a vocabulary: one for 25 classes, at least 4 and at most 24.

    The paper states 20 for ImageNet and 24 for SUN397, and no number for the other sets.

    Args:
        num_classes: Number of classes C, at least 1.

    Returns:
        ``min(24, max(4, ceil(C / 25)))``.

    Raises:
        ValueError: If ``num_classes`` is less than 1.
    """
    check_count(1, num_classes=num_classes)
    return min(24, max(4, math.ceil(num_classes / 25)))


class AttributeRefiner(nn.Module):
    r"""Refines class features by one step of diffusion over classes and learnable attributes.

    .. math:: F = [T; A],\quad S = \max(\cos(F, F), 0),\quad D_{ii} = \sum_{j=1}^{C+N} S_{ij},\quad
        \hat F = F + \beta D^{-1/2} S D^{-1/2} F,\quad \hat T = \hat F_{1..C}

    The paper writes ``S = cos(F, F)``: with random attributes some degree is then almost surely
    negative from about 100 classes on, and its root NaN. Degrees are never less than 1e-6 here.
    The source is LatHAdapter.

    Args:
        num_attributes: Number of attributes N.
        dim: Feature width d.
        beta: Strength of the refinement.
        affinity: ``'relu'``; ``'raw'`` for the paper's cosine, with degrees up to 1e-6 taken as
            1e-6; ``'softmax'`` for rows that sum to 1.
        init_std: Standard deviation of the attributes around their common initial value.

    Raises:
        ValueError: For numbers outside their range or an unknown affinity.
    """

    def __init__(
        self,
        num_attributes: int,
        dim: int,
        beta: float = 0.1,
        affinity: str = 'relu',
        init_std: float = 0.02,
    ):
        super().__init__()
        if num_attributes < 1 or dim < 1:
            raise ValueError(
                f'num_attributes and dim must be at least 1, got {num_attributes} and {dim}'
            )
        if not (beta >= 0 and math.isfinite(beta)):
            raise ValueError(f'beta must be finite and not negative, got {beta}')
        check_choice(AFFINITIES, affinity=affinity)
        check_positive(init_std=init_std)
        self.beta, self.affinity, self.init_std = beta, affinity, init_std
        self.attributes = nn.Parameter(init_std * torch.randn(num_attributes, dim))

    @torch.no_grad()
    def init_from_text(self, text: Tensor) -> None:
        """Initializes the attributes to the mean text feature plus their noise.

        Draws nothing, so all processes of a distributed run stay equal. Call it once.

        Args:
            text: Class features ``(C, d)``.
        """
        self.attributes.add_(text.mean(0))

    def affinities(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the matrix S ``(C+N, C+N)`` and its row sums ``(C+N)``, not clamped."""
        directions = unit(features)
        affinity = directions @ directions.mT
        if self.affinity == 'relu':
            affinity = affinity.relu()
        elif self.affinity == 'softmax':
            affinity = affinity.softmax(-1)
        return affinity, affinity.sum(-1)

    def diffuse(self, text: Tensor) -> Tensor:
        """Refined classes and attributes.

        Args:
            text: Class features ``(C, d)``.

        Returns:
            ``(C+N, d)`` of at least float32, classes first.

        Raises:
            ValueError: If the width is not that of the attributes.
        """
        if text.ndim != 2 or text.shape[1] != self.attributes.shape[1]:
            raise ValueError(
                f'text must have the shape (C, {self.attributes.shape[1]}), got {tuple(text.shape)}'
            )
        with torch.autocast(text.device.type, enabled=False):
            features = torch.cat(upcast(text, self.attributes))
            affinity, degree = self.affinities(features)
            scale = degree.clamp_min(_MIN_DEGREE).rsqrt().unsqueeze(-1)
            return features + self.beta * scale * (affinity @ (scale * features))

    def forward(self, text: Tensor) -> Tensor:
        """Refined class features ``(C, d)``, not normalized; see :meth:`diffuse`."""
        return self.diffuse(text)[: len(text)]

    def extra_repr(self) -> str:
        count, dim = self.attributes.shape
        return f'{count}, {dim}, beta={self.beta}, affinity={self.affinity!r}'


class LatentHierarchyLoss(nn.Module):
    r"""Orders points below ancestors of the Poincare ball, from similarities alone.

    For a triplet of an anchor ``i``, one of its reciprocal nearest neighbors ``j`` and a point
    ``k`` that is none, the lowest common ancestor ``a`` of ``ij``, and ``b`` of ``ijk``, is drawn
    by hard Gumbel-softmax from logits :math:`-\max_{x} d(x, \cdot)/\tau`:

    .. math:: L = \operatorname{mean}\; [a \ne b] \big( [d_{ia} - d_{ib} + \sigma]_+
        + [d_{ja} - d_{jb} + \sigma]_+ + [d_{kb} - d_{ka} + \sigma]_+ \big)

    The loss is that of HIER (CVPR 2023), which LatHAdapter takes for images below attributes and
    for attributes below classes. HIER draws 50 triplets an anchor with replacement, may draw the
    anchor as its own negative, and fails where there is none; here all valid triplets count, up to
    a cap, without a Python loop, and a batch without one has the loss 0.

    Args:
        curvature: ``c``.
        margin: ``sigma``.
        tau: Temperature of the distances.
        neighbors: Nearest neighbors k, the point itself included.
        max_triplets: Most triplets an anchor; a random choice where there are more.
        min_positives: Fewest reciprocal neighbors of an anchor (HIER asks for 2).
        clip_radius: Longest tangent vector; no limit if None (HIER: 2.3).
        hard: Straight-through choice of one ancestor, or a soft mixture of all.
        compat: ``'official'`` for the numerics of the official code of HIER: its distance, norm
            clip, and Riemannian factor of the gradient, with ``c`` rounded to float32 but in that
            factor.

    Raises:
        ValueError: For numbers outside their range.
    """

    @renamed_arguments(c='curvature', neighbours='neighbors')
    def __init__(
        self,
        curvature: float = 0.1,
        margin: float = 0.1,
        tau: float = 0.1,
        neighbors: int = 3,
        max_triplets: int = 64,
        min_positives: int = 1,
        clip_radius: float | None = None,
        hard: bool = True,
        compat: str | None = None,
    ):
        super().__init__()
        check_not_negative(margin=margin)
        check_positive(tau=tau)
        if neighbors < 2:
            raise ValueError(f'neighbors must be at least 2, the point included, got {neighbors}')
        if max_triplets < 1 or min_positives < 1:
            raise ValueError(
                'max_triplets and min_positives must be at least 1, '
                f'got {max_triplets} and {min_positives}'
            )
        if clip_radius is not None:
            check_positive(clip_radius=clip_radius)
        check_choice(COMPATS, compat=compat)
        self.c = self.gradient_c = float(check_curvature(curvature, name='curvature'))
        if compat == 'official':
            self.c = torch.tensor(self.c, dtype=torch.float32).item()
        self.margin, self.tau, self.hard, self.compat = margin, tau, hard, compat
        self.neighbors, self.max_triplets = neighbors, max_triplets
        self.min_positives, self.clip_radius = min_positives, clip_radius

    def to_ball(self, x: Tensor) -> Tensor:
        """Maps tangent vectors at the origin to points of the ball, both ``(..., d)``."""
        (x,) = upcast(x)
        if self.clip_radius is not None:
            norm = safe_norm(x, keepdim=True)
            norm = norm + 1e-5 if self.compat == 'official' else norm
            far = norm > self.clip_radius
            x = x * torch.where(far, self.clip_radius / torch.where(far, norm, 1), 1)
        points = poincare.project(poincare.expmap0(x, self.c), self.c)
        if self.compat == 'official':
            return RiemannianGradient.apply(points, self.gradient_c)
        return points

    def lift(self, x: Tensor) -> Tensor:
        """Old name of :meth:`to_ball`."""
        warnings.warn(
            'LatentHierarchyLoss.lift is deprecated and will go with the next release; use to_ball',
            DeprecationWarning,
            stacklevel=2,
        )
        return self.to_ball(x)

    def pairwise_dist(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances ``(n, m)`` of points of the ball."""
        if self.compat == 'official':
            return official_pairwise_dist(x, y, self.c)
        return poincare.pairwise_dist(x, y, self.c)

    @torch.no_grad()
    def triplets(self, distances: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Triplets of a batch, of a fixed number, with a mask of those that are valid.

        Args:
            distances: Distances of all pairs of points ``(n, n)``.
            labels: Classes ``(n)``; points of one class are then nearer than all others.

        Returns:
            Triplets ``(T, 3)`` of indices i, j, k and the mask ``(T)``.
        """
        count = len(distances)
        similarity = torch.exp(-distances)
        if labels is not None:
            similarity = similarity + (labels.unsqueeze(1) == labels)
        itself = torch.eye(count, dtype=torch.bool, device=distances.device)
        nearest = similarity.masked_fill(itself, math.inf).topk(min(self.neighbors, count)).indices
        near = torch.zeros_like(itself).scatter_(1, nearest, True)
        mutual = near & near.mT
        positive = mutual.gather(1, nearest) & (nearest != nearest[:, :1])
        positive &= positive.sum(1, keepdim=True) >= self.min_positives
        valid = (positive.unsqueeze(-1) & ~mutual.unsqueeze(1)).flatten(1)
        keys = torch.rand(valid.shape, device=valid.device).masked_fill(~valid, -1.0)
        chosen = keys.topk(min(self.max_triplets, keys.shape[1])).indices
        slot, k = chosen // count, chosen % count
        i = torch.arange(count, device=chosen.device).unsqueeze(1).expand_as(chosen)
        found = torch.stack([i, nearest.gather(1, slot), k], -1)
        return found.flatten(0, 1), valid.gather(1, chosen).flatten()

    def ancestors(self, distances: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draws a common ancestor.

        Args:
            distances: Largest distance of the members to each ancestor ``(T, m)``.
            noise: Gumbel noise ``(T, m)``; drawn if None.

        Returns:
            Weights of the ancestors ``(T, m)`` and the index of the largest ``(T)``.
        """
        if noise is None:
            tiny = torch.finfo(distances.dtype).tiny
            noise = -torch.empty_like(distances).exponential_().clamp_min(tiny).log()
        soft = (noise - distances / self.tau).softmax(-1)
        index = soft.argmax(-1)
        if not self.hard:
            return soft, index
        return F.one_hot(index, soft.shape[-1]).to(soft) - soft.detach() + soft, index

    def triplet_losses(
        self,
        distances: Tensor,
        triplets: Tensor,
        noise: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of each triplet.

        Args:
            distances: Distances of points to ancestors ``(n, m)``.
            triplets: Indices i, j, k of points ``(T, 3)``.
            noise: Gumbel noise of the ancestors of ij and of ijk, each ``(T, m)``; drawn if None.

        Returns:
            Losses ``(T)``, and the ancestors of ij and of ijk, each ``(T)``.
        """
        d_i, d_j, d_k = distances[triplets].unbind(1)
        both = torch.maximum(d_i, d_j)
        a, index_a = self.ancestors(both, noise[0])
        b, index_b = self.ancestors(torch.maximum(d_k, both), noise[1])
        gap_i, gap_j, gap_k = ((d * (a - b)).sum(-1) for d in (d_i, d_j, d_k))
        hinges = (gap_i + self.margin).relu() + (gap_j + self.margin).relu()
        hinges = hinges + (self.margin - gap_k).relu()
        return hinges * (index_a != index_b), index_a, index_b

    def forward(self, points: Tensor, ancestors: Tensor, labels: Tensor | None = None) -> Tensor:
        """Computes the loss.

        Args:
            points: Tangent vectors of the points ``(n, d)``.
            ancestors: Tangent vectors of the candidate ancestors ``(m, d)``.
            labels: Classes of the points ``(n)``, or None.

        Returns:
            A 0-dimensional tensor of at least float32; 0 where no triplet is valid.

        Raises:
            ValueError: If there is no ancestor, or the shapes do not fit.
        """
        if points.ndim != 2 or ancestors.ndim != 2 or points.shape[1] != ancestors.shape[1]:
            raise ValueError(
                'points and ancestors must have the shapes (n, d) and (m, d), '
                f'got {tuple(points.shape)} and {tuple(ancestors.shape)}'
            )
        if not len(ancestors):
            raise ValueError('ancestors must not be empty')
        if labels is not None and labels.shape != points.shape[:1]:
            raise ValueError(
                f'labels must have the shape ({len(points)},), got {tuple(labels.shape)}'
            )
        with torch.autocast(points.device.type, enabled=False):
            x, y = self.to_ball(points), self.to_ball(ancestors)
            triplets, valid = self.triplets(self.pairwise_dist(x.detach(), x.detach()), labels)
            losses, _, _ = self.triplet_losses(self.pairwise_dist(x, y), triplets)
            return (losses * valid).sum() / valid.sum().clamp_min(1)

    def extra_repr(self) -> str:
        return f'c={self.c:g}, margin={self.margin}, tau={self.tau}, k={self.neighbors}'


def joint_logits(
    image: Tensor, text: Tensor, c: float = 0.1, tau: float = 0.01, hyp_tau: float = 1.0
) -> tuple[Tensor, Tensor]:
    r"""Euclidean and hyperbolic class logits; LatHAdapter predicts by their sum.

    .. math:: \cos(v, \hat t) / \tau,\qquad -d(\exp_0 v, \exp_0 \hat t) / \tau_h

    With unit features the distance changes by about 1.6 over a unit of cosine, the first term by
    100: the hyperbolic term hardly moves predictions unless ``hyp_tau`` is small.

    Args:
        image: Image features ``(B, d)``, also tangent vectors at the origin.
        text: Refined class features ``(C, d)``, the same.
        c: Curvature.
        tau: Temperature of the cosine.
        hyp_tau: Temperature of the distance; the paper has none.

    Returns:
        Two tensors ``(B, C)`` of at least float32.
    """
    with torch.autocast(image.device.type, enabled=False):
        image, text = upcast(image, text)
        x, y = (poincare.project(poincare.expmap0(v, c), c) for v in (image, text))
        cosine = unit(image) @ unit(text).mT
        return cosine / tau, -poincare.pairwise_dist(x, y, c) / hyp_tau
