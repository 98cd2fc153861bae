r"""Losses that order the texts of a CLIP model: general ones near a root, specific ones far away.

The root ``r`` is the embedding of the empty text. Geometry happens around it: a text is placed by
``s (e - r)``, as a flat vector or as a tangent vector at the root in hyperbolic space. For
curvature to 0 the hyperbolic angles become the flat ones.

Source: Alper and Averbuch-Elor, Emergent Visual-Semantic Hierarchies in Image-Text Representations
(ECCV 2024), which is flat; the hyperbolic forms are ours.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyper_mm.ops import entailment, lorentz, poincare
from hyper_mm.ops.inputs import upcast
from hyper_mm.ops.stable import safe_norm, unit

from ...checks import check_choice, check_not_negative, check_positive
from ..common.curvature import Curvature, curvature_options

GEOMETRIES = ('euclidean', 'poincare', 'lorentz')
MAX_RADIUS = {'poincare': 7.0, 'lorentz': 38.0}
"""Longest ``sqrt(c) |v|`` of a placed vector for which float32 still has points."""


class RadialGeometry(nn.Module):
    """Space around a root: radii, exterior angles and cones.

    Args:
        geometry: ``'euclidean'``, ``'poincare'`` or ``'lorentz'``. Poincare and Lorentz are one
            space in two models; with the same ``scale`` a text lies twice as far from the root in
            the ball, by the convention of its exponential map.
        scale: Length of the placed vectors, relative to those of unit embeddings.
        curvature: ``c``, or arguments of :class:`hyper_mm.layers.Curvature`; not learnable by
            default.

    Raises:
        ValueError: For an unknown geometry, a scale that is not positive or takes float32 out of
            hyperbolic space, or a flat space with a curvature.
    """

    def __init__(
        self, geometry: str = 'euclidean', scale: float = 1.0, curvature: float | dict | None = None
    ):
        super().__init__()
        check_choice(GEOMETRIES, geometry=geometry)
        check_positive(scale=scale)
        if geometry == 'euclidean' and curvature is not None:
            raise ValueError(
                f"curvature must be None with geometry='euclidean', which is flat, got {curvature}"
            )
        self.geometry = geometry
        self.scale = scale
        self.curvature = None
        if geometry != 'euclidean':
            self.curvature = Curvature(**curvature_options(curvature, learnable=False))
            log_c = self.curvature.log_bounds[1] if self.curvature.learnable else None
            c = self.curvature().item() if log_c is None else math.exp(log_c)
            farthest = 2 * scale * c**0.5  # embeddings are at most 2 apart
            if farthest > MAX_RADIUS[geometry]:
                raise ValueError(
                    f'scale must be at most {scale * MAX_RADIUS[geometry] / farthest:.4g} for '
                    f'geometry={geometry!r} with curvatures up to {c:g}, got {scale}'
                )

    def _c(self) -> Tensor:
        assert self.curvature is not None  # the geometry is not flat
        return self.curvature()

    def place(self, embeddings: Tensor, root: Tensor) -> Tensor:
        """Places unit embeddings around the root, which becomes the origin.

        Args:
            embeddings: Unit vectors ``(..., D)``.
            root: Unit vector ``(D,)``.

        Returns:
            Points ``(..., D)`` of the space.
        """
        vectors = self.scale * (embeddings - root)
        if self.geometry == 'euclidean':
            return vectors
        model = lorentz if self.geometry == 'lorentz' else poincare
        return model.expmap0(vectors, self._c())

    def exterior_angle(self, general: Tensor, specific: Tensor) -> Tensor:
        """Exterior angles ``(...)`` at ``general``, in radians, of placed points ``(..., D)``."""
        if self.geometry == 'euclidean':
            return entailment.euclidean_exterior_angle(general, specific)
        if self.geometry == 'poincare':
            return entailment.poincare_exterior_angle(general, specific, self._c())
        return entailment.lorentz_exterior_angle(general, specific, self._c())

    def half_aperture(self, points: Tensor, min_radius: float) -> Tensor:
        """Half-apertures ``(...)`` of the cones of placed points ``(..., D)``, in radians."""
        if self.geometry == 'euclidean':
            return entailment.euclidean_half_aperture(points, min_radius=min_radius)
        if self.geometry == 'poincare':
            return entailment.poincare_half_aperture(points, self._c(), min_radius)
        return entailment.lorentz_half_aperture(points, self._c(), min_radius)

    def extra_repr(self) -> str:
        return f'{self.geometry}, scale={self.scale:g}'


class RadialAngles(NamedTuple):
    """Exterior angles of the triples of some caption chains, in radians.

    Attributes:
        positive: At each caption but the last, towards its successor, ``(T - 1, B)``.
        negative: At the same captions, towards the contradicting caption of the same tier.
        anchors: The placed captions ``(T - 1, B, D)``.
    """

    positive: Tensor
    negative: Tensor
    anchors: Tensor


class _ChainLoss(nn.Module):
    """Base of both losses: embeddings of chains, their angles, the regularizer."""

    def __init__(
        self,
        lambda_reg: float,
        geometry: str,
        scale: float,
        curvature: float | dict | None,
        **weights,
    ):
        super().__init__()
        check_not_negative(lambda_reg=lambda_reg, **weights)
        self.lambda_reg = lambda_reg
        self.space = RadialGeometry(geometry, scale, curvature)

    def angles(self, embeddings: Tensor, root: Tensor) -> RadialAngles:
        """Exterior angles of all triples.

        Args:
            embeddings: Embeddings of positive and negative chains ``(2, T, B, D)``, general to
                specific, of any length: they are normalized.
            root: Embedding of the root ``(D,)``.

        Returns:
            The angles; finite, with finite gradients, for equal captions and for the root itself.

        Raises:
            ValueError: If the shapes do not fit.
        """
        if embeddings.ndim != 4 or len(embeddings) != 2 or embeddings.shape[1] < 2:
            raise ValueError(
                'embeddings must have the shape (2, tiers >= 2, batch, dim), '
                f'got {tuple(embeddings.shape)}'
            )
        if root.shape != embeddings.shape[-1:]:
            raise ValueError(
                f'root must have the shape ({embeddings.shape[-1]},), got {tuple(root.shape)}'
            )
        embeddings, root = upcast(embeddings, root)
        with torch.autocast(embeddings.device.type, enabled=False):
            positive, negative = self.space.place(unit(embeddings), unit(root))
            anchors = positive[:-1]
            return RadialAngles(
                self.space.exterior_angle(anchors, positive[1:]),
                self.space.exterior_angle(anchors, negative[:-1]),
                anchors,
            )

    def regularizer(self, embeddings: Tensor, frozen: Tensor | None) -> Tensor:
        r"""How far all texts are from their pre-trained embeddings.

        .. math:: L_{reg} = \tfrac12 (1 - \operatorname{mean} \cos(e, e^*))

        Args:
            embeddings: Embeddings ``(..., D)``.
            frozen: Those of the same texts before training, ``(..., D)``.

        Returns:
            A 0-dimensional tensor in [0, 1].

        Raises:
            ValueError: If ``frozen`` is None, or has another shape.
        """
        if frozen is None or frozen.shape != embeddings.shape:
            found = None if frozen is None else tuple(frozen.shape)
            raise ValueError(
                f'frozen must have the shape of the embeddings, {tuple(embeddings.shape)}, for '
                f'lambda_reg={self.lambda_reg}, got {found}'
            )
        embeddings, frozen = upcast(embeddings, frozen)
        return (1 - (unit(embeddings) * unit(frozen)).sum(-1).mean()) / 2

    def _with_regularizer(
        self, losses: dict[str, Tensor], embeddings: Tensor, frozen: Tensor | None
    ) -> dict[str, Tensor]:
        if self.lambda_reg:
            losses['loss_reg'] = self.lambda_reg * self.regularizer(embeddings, frozen)
        return losses


class RadialEmbeddingLoss(_ChainLoss):
    r"""Pulls the successor of a caption behind it as seen from the root, and contradictions aside.

    .. math:: L_{RE}(e, e', e'') = \Xi_r(e, e') - \Xi_r(e, e''),\qquad
        \Xi_r(e, e') = \pi - \angle(r, e, e')

    for the triples (p_i, p_{i+1}, n_i), i < T, of chains ``p`` and contradicting chains ``n``. With
    all ``P = \Xi_r(p_i, p_{i+1})`` and ``N = -\Xi_r(p_i, n_i)`` of a batch,

    .. math:: L = \lambda_{reg} L_{reg} + \lambda_{mean} \operatorname{mean}(P + N)
        + \lambda_{hard} \big( (P + N)_{\arg\max P} + (P + N)_{\arg\max N} \big).

    Args:
        lambda_reg: Weight of the regularizer (the paper's 5 without the factor 1/2).
        lambda_mean: Weight of the mean over all triples.
        lambda_hard: Weight of the two hardest triples.
        geometry: ``'euclidean'`` (the paper), ``'poincare'`` or ``'lorentz'``.
        scale: See :class:`RadialGeometry`.
        curvature: See :class:`RadialGeometry`.

    Raises:
        ValueError: If a weight is negative, or for arguments of :class:`RadialGeometry`.

    Source: Alper and Averbuch-Elor, Emergent Visual-Semantic Hierarchies (ECCV 2024).
    """

    def __init__(
        self,
        lambda_reg: float = 10.0,
        lambda_mean: float = 1.0,
        lambda_hard: float = 1.0,
        geometry: str = 'euclidean',
        scale: float = 1.0,
        curvature: float | dict | None = None,
    ):
        super().__init__(
            lambda_reg, geometry, scale, curvature, lambda_mean=lambda_mean, lambda_hard=lambda_hard
        )
        self.lambda_mean = lambda_mean
        self.lambda_hard = lambda_hard

    def forward(
        self, embeddings: Tensor, root: Tensor, frozen: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Computes the weighted losses.

        Args:
            embeddings: Embeddings of positive and negative chains ``(2, T, B, D)``.
            root: Embedding of the root ``(D,)``, with its gradient.
            frozen: Embeddings of the same texts before training ``(2, T, B, D)``; may be None for
                ``lambda_reg=0``.

        Returns:
            ``loss_mean``, ``loss_hard`` and, unless its weight is 0, ``loss_reg``.
        """
        angles = self.angles(embeddings, root)
        positive, negative = angles.positive.flatten(), -angles.negative.flatten()
        triples = positive + negative
        hardest = torch.stack([positive.argmax(), negative.argmax()])
        hard = triples.gather(0, hardest).sum()
        losses = dict(
            loss_mean=self.lambda_mean * triples.mean(), loss_hard=self.lambda_hard * hard
        )
        return self._with_regularizer(losses, embeddings, frozen)


class EntailmentConeLoss(_ChainLoss):
    r"""Pulls the successor of a caption into its cone, and contradictions out of it.

    .. math:: E(e, e') = [\Xi_r(e, e') - \psi_r(e)]_+,\qquad
        L = \operatorname{mean} E(p_i, p_{i+1})
        + \lambda_{neg} \operatorname{mean} [\gamma - E(p_i, n_i)]_+ + \lambda_{reg} L_{reg}

    with the half-aperture :math:`\sin \psi_r(e) = \min(1, K / \lVert e - r \rVert)` of a flat cone,
    or that of hyperbolic space. The baseline of the paper of :class:`RadialEmbeddingLoss`; the
    triples are the same, the term of negatives is that of Ganea et al.

    Args:
        lambda_reg: Weight of the regularizer.
        lambda_negative: Weight of the negatives.
        margin: ``gamma``, radians.
        min_radius: ``K``.
        geometry: ``'euclidean'``, ``'poincare'`` or ``'lorentz'``.
        scale: See :class:`RadialGeometry`.
        curvature: See :class:`RadialGeometry`.

    Raises:
        ValueError: If a weight is negative, or for arguments of :class:`RadialGeometry`.

    Source: Ganea et al., Hyperbolic Entailment Cones (ICML 2018).
    """

    def __init__(
        self,
        lambda_reg: float = 10.0,
        lambda_negative: float = 1.0,
        margin: float = 0.1,
        min_radius: float = 0.1,
        geometry: str = 'euclidean',
        scale: float = 1.0,
        curvature: float | dict | None = None,
    ):
        super().__init__(
            lambda_reg, geometry, scale, curvature, lambda_negative=lambda_negative, margin=margin
        )
        check_positive(min_radius=min_radius)
        self.lambda_negative = lambda_negative
        self.margin = margin
        self.min_radius = min_radius

    def forward(
        self, embeddings: Tensor, root: Tensor, frozen: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Computes the weighted losses; see :meth:`RadialEmbeddingLoss.forward`.

        Returns:
            ``loss_cone``, ``loss_negative`` and, unless its weight is 0, ``loss_reg``.
        """
        angles = self.angles(embeddings, root)
        aperture = self.space.half_aperture(angles.anchors, self.min_radius)
        inside = entailment.cone_energy(angles.positive, aperture)
        outside = F.relu(self.margin - entailment.cone_energy(angles.negative, aperture))
        losses = dict(loss_cone=inside.mean(), loss_negative=self.lambda_negative * outside.mean())
        return self._with_regularizer(losses, embeddings, frozen)


def text_radii(embeddings: Tensor, root: Tensor) -> Tensor:
    r"""Radii :math:`R(e) = \lVert e - r \rVert` of normalized texts: how specific they are.

    Radii in hyperbolic space are multiples of these (a geodesic from the root is as long as its
    tangent vector), so every metric by their order is the same in all three geometries.

    Args:
        embeddings: Embeddings ``(..., D)`` of any length.
        root: Embedding of the root ``(D,)`` of any length.

    Returns:
        Radii ``(...)`` in [0, 2].
    """
    embeddings, root = upcast(embeddings, root)
    return safe_norm(unit(embeddings) - unit(root))
