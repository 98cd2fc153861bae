"""LatHAdapter on top of any model that computes image and text features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from hyper_mm.checks import check_positive
from hyper_mm.deprecation import renamed_arguments
from hyper_mm.layers.lathadapter.latent_hierarchy import (
    AttributeRefiner,
    LatentHierarchyLoss,
    automatic_attributes,
    joint_logits,
)
from hyper_mm.models.utils.labels import check_labels
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.ops.stable import unit
from hyper_mm.registry import MODELS

TERMS = ('ecls', 'hcls', 'va', 'at')


@MODELS.register_module()
class LatHAdapterHead(OwnInit, BaseModule):
    r"""Refined text features, their classification losses, and a latent hierarchy.

    .. math:: L = w_e L_{ecls} + w_h L_{hcls} + w_{va} L_{va} + w_{at} L_{at}

    with cross-entropies over the cosine and over the hyperbolic distance, and
    :class:`hyper_mm.layers.LatentHierarchyLoss` of images below attributes and of attributes below
    classes. Predictions are the softmax of the sum of both logits.

    Args:
        num_classes: Classes of the training vocabulary, which ``num_attributes`` comes from where
            it is not given, and nothing else; others may be given at test time.
        embed_dims: Width of the features (512 for ViT-B/16, 768 for ViT-L/14).
        num_attributes: Number of attributes (the paper: 20 for ImageNet, 24 for SUN397); None:
            :func:`hyper_mm.layers.lathadapter.latent_hierarchy.automatic_attributes`.
        refiner: Further arguments of :class:`hyper_mm.layers.AttributeRefiner`.
        hierarchy: Arguments of :class:`hyper_mm.layers.LatentHierarchyLoss`.
        mean_text_init: Start the attributes at the mean text feature of the first training batch.
        tau: Temperature of the cosine.
        hyp_tau: Temperature of the distance; small values make it count in predictions.
        feat_scale: Length of the features that are lifted to the ball.
        refined_attributes: Take the attributes of the losses as the refiner leaves them, instead of
            as they are learned (the paper does not say which).
        weights: Weights of the terms ``ecls``, ``hcls``, ``va`` and ``at``; 1 where not given.
        init_cfg: Initialization config of mmengine.

    Raises:
        ValueError: For numbers outside their range or an unknown term.
    """

    @renamed_arguments(dim='embed_dims')
    def __init__(
        self,
        num_classes: int | None,
        embed_dims: int,
        num_attributes: int | None = None,
        refiner: dict | None = None,
        hierarchy: dict | None = None,
        mean_text_init: bool = True,
        tau: float = 0.01,
        hyp_tau: float = 1.0,
        feat_scale: float = 1.0,
        refined_attributes: bool = False,
        weights: dict[str, float] | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        check_positive(tau=tau, hyp_tau=hyp_tau, feat_scale=feat_scale)
        unknown = sorted(set(weights or {}) - set(TERMS))
        if unknown:
            raise ValueError(f'weights must be of the terms {TERMS}, got {unknown}')
        if num_classes is None and num_attributes is None:
            raise ValueError('num_attributes needs num_classes, or a number of its own, got None')
        automatic = None if num_classes is None else automatic_attributes(num_classes)
        count = automatic if num_attributes is None else num_attributes
        self.refiner = AttributeRefiner(count, embed_dims, **(refiner or {}))
        self.hierarchy = LatentHierarchyLoss(**(hierarchy or {}))
        self.tau, self.hyp_tau, self.feat_scale = tau, hyp_tau, feat_scale
        self.refined_attributes = refined_attributes
        self.weights = {**dict.fromkeys(TERMS, 1.0), **(weights or {})}
        self.register_buffer('started', torch.tensor(not mean_text_init))

    def _features(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit image features, refined text features, attributes: all times ``feat_scale``."""
        features = self.refiner.diffuse(unit(text.float()))
        refined, attributes = features[: len(text)], features[len(text) :]
        if not self.refined_attributes:
            attributes = self.refiner.attributes
        return tuple(self.feat_scale * x for x in (unit(image.float()), refined, attributes))

    def _logits(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        return joint_logits(image, text, self.hierarchy.c, self.tau, self.hyp_tau)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Logits of the prediction.

        Args:
            image: Image features ``(B, d)`` of any length.
            text: Features of the vocabulary ``(C, d)`` of any length.

        Returns:
            ``(B, C)``.
        """
        return sum(self.terms(image, text))

    def terms(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of :meth:`forward`: of the cosine, and of the hyperbolic distance."""
        image, text, _ = self._features(image, text)
        return self._logits(image, text)

    def loss(self, image: Tensor, text: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            image: Image features ``(B, d)`` of any length.
            text: Features of the vocabulary ``(C, d)`` of any length.
            labels: Classes ``(B)``; None (PromptKD) leaves the classification losses out.

        Returns:
            ``loss_ecls``, ``loss_hcls``, ``loss_va`` and ``loss_at``, weighted, and with labels the
            share of predictions that the distance changes, ``lath_adapter/changed``, which is no
            loss. As distances are bounded, ``loss_hcls`` has a floor well above 0.

        Raises:
            ValueError: If a label is outside the vocabulary.
        """
        if labels is not None:
            check_labels(labels, len(text))
        if not self.started:
            self.refiner.init_from_text(unit(text.detach().float()))
            self.started.fill_(True)
        image, text, attributes = self._features(image, text)
        losses = dict(
            va=self.hierarchy(image, attributes, labels), at=self.hierarchy(attributes, text)
        )
        if labels is not None:
            cosine, hyperbolic = self._logits(image, text)
            losses['ecls'] = F.cross_entropy(cosine, labels)
            losses['hcls'] = F.cross_entropy(hyperbolic, labels)
        found = {f'loss_{n}': self.weights[n] * losses[n] for n in TERMS if n in losses}
        if labels is not None:
            changed = cosine.argmax(1) != (cosine + hyperbolic).argmax(1)
            found['lath_adapter/changed'] = changed.float().mean()
        return found
