r"""Few-shot segmentation and classification by prototypes, in flat and hyperbolic spaces.

Sources: Wang et al., PANet: Few-Shot Image Semantic Segmentation with Prototype Alignment, ICCV
2019; Snell et al., Prototypical Networks for Few-shot Learning, NeurIPS 2017 (``'sqeuclidean'``).
The hyperbolic distances and centroids are additions of this package.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...checks import check_choice, check_positive, check_range
from ...ops import lorentz, poincare
from ...ops.stable import safe_norm, unit
from ..common.curvature import Curvature, curvature_options

DISTANCES = ('cosine', 'euclidean', 'sqeuclidean', 'poincare', 'lorentz')
MAX_RADIUS = 12.0
"""Largest ``max_radius``: float32 points of the ball keep two digits of their radius there."""


class PrototypeClassifier(nn.Module):
    r"""Prototypes of regions, and pixels classified by their distance to them.

    Logits are :math:`s \cos(f, p)` for ``'cosine'`` and :math:`-s\, d(f, p)` for the others.
    Hyperbolic points are ``expmap0(feature_scale * feature)`` and their mean is the Lorentz
    centroid, also for ``'poincare'`` (through the isometry). Tangent vectors whose points would lie
    farther from the origin than ``max_radius`` are shortened to it, and distances are computed from
    tangent vectors, so that values and gradients are finite for features of any length.

    Args:
        distance: One of :data:`DISTANCES`.
        scale: s.
        feature_scale: Factor of the features before the exponential map (hyperbolic distances).
        curvature: ``c``, or arguments of :class:`hyper_mm.layers.Curvature`; not learnable by
            default.
        learnable_curvature: Deprecated: use ``curvature=dict(learnable=True)``.
        eps: Added to the area of a region (flat distances), as PANet does.
        max_radius: Largest scaled distance :math:`\sqrt c\, d(0, x)` of a point from the origin, in
            (0, 12] (hyperbolic distances).

    Raises:
        ValueError: If ``distance`` is unknown, or a number is out of range.
    """

    def __init__(
        self,
        distance: str = 'cosine',
        scale: float = 20.0,
        feature_scale: float = 1.0,
        curvature: float | dict = 1.0,
        learnable_curvature: bool | None = None,
        eps: float = 1e-5,
        max_radius: float = 6.0,
    ):
        super().__init__()
        if learnable_curvature is not None:
            warnings.warn(
                'learnable_curvature is deprecated and will go with the next release; use '
                f'curvature=dict(init=..., learnable={learnable_curvature})',
                DeprecationWarning,
                stacklevel=2,
            )
        check_choice(DISTANCES, distance=distance)
        check_positive(scale=scale, feature_scale=feature_scale, eps=eps)
        check_range(f'(0, {MAX_RADIUS:g}]', max_radius=max_radius)
        self.distance, self.scale, self.eps = distance, scale, eps
        self.feature_scale, self.max_radius = feature_scale, max_radius
        self.hyperbolic = distance in ('poincare', 'lorentz')
        if self.hyperbolic:
            learnable = bool(learnable_curvature)
            self.curvature = Curvature(**curvature_options(curvature, learnable=learnable))

    def tangents(self, features: Tensor) -> Tensor:
        """Tangent vectors of the hyperboloid at the origin, no longer than ``max_radius`` allows.

        The exponential map of the ball is that of the hyperboloid at half the length.

        Args:
            features: Feature maps ``(K, C, h, w)``.

        Returns:
            Tangent vectors ``(K, h w, C)`` in float32 or better, pixels last but one.
        """
        x = self.feature_scale * (1 if self.distance == 'lorentz' else 2) * _pixels(features)
        radius = self.curvature() ** 0.5 * safe_norm(x, keepdim=True)
        far = radius > self.max_radius
        return x * torch.where(far, self.max_radius / torch.where(far, radius, 1), 1)

    def points(self, features: Tensor) -> Tensor:
        """Points of the space, pixels last but one.

        Args:
            features: Feature maps ``(K, C, h, w)``.

        Returns:
            Points ``(K, h w, C)`` in float32 or better.
        """
        if not self.hyperbolic:
            return _pixels(features)
        if self.distance == 'lorentz':
            return lorentz.expmap0(self.tangents(features), self.curvature())
        return poincare.expmap0(self.tangents(features) / 2, self.curvature())

    def mean(self, points: Tensor, weight: Tensor, eps: float = 0.0) -> Tensor:
        """Weighted centroid along the last but one dimension.

        Args:
            points: Points ``(..., n, C)``.
            weight: Non-negative weights ``(..., n)``.
            eps: Added to the sum of the weights (flat distances).

        Returns:
            Points ``(..., C)``; the origin where all weights are 0.
        """
        weight = weight.to(points.dtype)
        if not self.hyperbolic:
            total = weight.sum(-1, keepdim=True) + eps
            sums = (weight.unsqueeze(-2) @ points).squeeze(-2)
            return sums / torch.where(total > 0, total, 1)
        c = self.curvature()
        if self.distance == 'lorentz':
            return lorentz.centroid(points, weight, c)
        center = lorentz.centroid(poincare.to_lorentz(points, c), weight, c)
        return lorentz.to_poincare(center, c)

    def prototypes(self, features: Tensor, fore: Tensor, back: Tensor) -> Tensor:
        """Prototypes of the background and of each way, by masked average pooling.

        Features are interpolated to the masks (bilinear, half-pixel centers) and averaged over each
        region, then over the images where the region is not empty (PANet averages zeros in).

        Args:
            features: Support features ``(K, C, h, w)``.
            fore: Masks of the ways ``(W, K, H, W)``.
            back: Masks of the background ``(K, H, W)``.

        Returns:
            Points ``(1 + W, C)``, the background first.
        """
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(torch.promote_types(features.dtype, torch.float32))
            features = F.interpolate(features, fore.shape[-2:], mode='bilinear')
            points = self.points(features)
            masks = torch.cat([back.unsqueeze(0), fore]).flatten(2)
            shots = torch.stack(
                [self.mean(x, m, self.eps) for x, m in zip(points, masks.unbind(1))], 1
            )
            return self.mean(shots, (masks.sum(-1) > 0))

    def class_prototypes(self, features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
        """Prototypes of classes of images.

        Args:
            features: A vector of each image ``(N, C)``.
            labels: Their classes ``(N,)``.
            num_classes: W.

        Returns:
            Points ``(W, C)``.

        Raises:
            ValueError: If a class has no image, or a label is no class.
        """
        counts = torch.bincount(labels.clamp(-1, num_classes) + 1, minlength=num_classes + 2)
        if counts[0] or counts[-1] or not counts[1:-1].all():
            raise ValueError(
                f'labels must be 0..{num_classes - 1}, each at least once, got {labels.tolist()}'
            )
        with torch.autocast(features.device.type, enabled=False):
            points = self.points(_as_map(features))[0].expand(num_classes, -1, -1)
            return self.mean(points, F.one_hot(labels, num_classes).T)

    def class_logits(self, features: Tensor, prototypes: Tensor) -> Tensor:
        """Logits of images.

        Args:
            features: A vector of each image ``(N, C)``.
            prototypes: Points ``(W, C)``.

        Returns:
            Logits ``(N, W)`` in float32 or better.
        """
        return self.logits(_as_map(features), prototypes)[0, :, 0].T

    def logits(self, features: Tensor, prototypes: Tensor) -> Tensor:
        """Logits at feature size.

        Args:
            features: Feature maps ``(N, C, h, w)``.
            prototypes: Points ``(P, C)``.

        Returns:
            Logits ``(N, P, h, w)`` in float32 or better.
        """
        with torch.autocast(features.device.type, enabled=False):
            if self.hyperbolic:
                c = self.curvature()
                if self.distance == 'lorentz':
                    centers = lorentz.logmap0(prototypes, c)
                else:
                    centers = 2 * poincare.logmap0(prototypes, c)
                values = -lorentz.pairwise_dist_tangent0(self.tangents(features), centers, c)
            elif self.distance == 'cosine':
                values = unit(self.points(features)) @ unit(prototypes).transpose(-2, -1)
            else:
                difference = self.points(features).unsqueeze(-2) - prototypes
                squared = self.distance == 'sqeuclidean'
                values = -(difference.square().sum(-1) if squared else safe_norm(difference))
            return (self.scale * values).transpose(-2, -1).unflatten(-1, features.shape[-2:])

    def alignment_loss(
        self, query: Tensor, logits: Tensor, support: Tensor, fore: Tensor, back: Tensor
    ) -> Tensor:
        """PANet's alignment: prototypes of the predicted query must segment the support.

        Args:
            query: Query features ``(N, C, h, w)``.
            logits: Their logits at feature size ``(N, 1 + W, h, w)``; only the arg max counts.
            support: Support features ``(K, C, h, w)``.
            fore: Masks of the ways ``(W, K, H, W)``.
            back: Masks of the background ``(K, H, W)``.

        Returns:
            Cross entropy of background against way, averaged over the images and the ways that are
            in them. A way that is predicted nowhere adds 0.
        """
        with torch.autocast(query.device.type, enabled=False):
            ways = len(fore)
            chosen = F.one_hot(logits.argmax(1), 1 + ways).flatten(0, 2).transpose(-2, -1)
            points = self.points(query).flatten(0, 1)
            protos = self.mean(points.expand(1 + ways, -1, -1), chosen, self.eps)
            total, pairs = logits.sum() * 0, 0
            for way in range(ways):
                shots = fore[way].flatten(1).any(-1)
                pairs += int(shots.sum())
                if not shots.any() or not chosen[1 + way].any():
                    continue
                low = self.logits(support[shots], protos[[0, 1 + way]])
                label = torch.full_like(back[shots], 255, dtype=torch.long)
                label[back[shots] > 0] = 0
                label[fore[way][shots] > 0] = 1
                high = F.interpolate(low, label.shape[-2:], mode='bilinear')
                each = F.cross_entropy(high, label, ignore_index=255, reduction='none')
                total = total + (each.sum((1, 2)) / (label != 255).sum((1, 2))).sum()
            return total / max(pairs, 1)

    def extra_repr(self) -> str:
        """The options."""
        text = f'{self.distance!r}, scale={self.scale}, feature_scale={self.feature_scale}'
        return f'{text}, max_radius={self.max_radius}' if self.hyperbolic else text


def _as_map(features: Tensor) -> Tensor:
    """Vectors ``(N, C)`` as the pixels of one map ``(1, C, 1, N)``."""
    return features.T[None, :, None]


def _pixels(features: Tensor) -> Tensor:
    """Feature maps ``(K, C, h, w)`` as vectors ``(K, h w, C)`` in float32 or better."""
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    return wide.flatten(2).transpose(-2, -1)
