"""Nearest-prototype head of few-shot classifiers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmpretrain.models.heads import ClsHead
from torch import Tensor

from hyper_mm.checks import check_at_least
from hyper_mm.layers.meta.prototypes import PrototypeClassifier
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.registry import MODELS

from .support_head import SupportHead


@MODELS.register_module()
class PrototypicalClsHead(SupportHead, OwnInit, ClsHead):
    """Classification head without weights, within ``hyper_mm.PrototypicalClassifier``.

    Labels of an episode are 0 ... W - 1. See :class:`hyper_mm.layers.PrototypeClassifier`.

    Source: Snell et al., Prototypical Networks for Few-shot Learning, NeurIPS 2017.

    Args:
        num_classes: W, the ways of an episode; those of its support if None.
        classifier: Arguments of the classifier: ``distance``, ``scale``, ``feature_scale``,
            ``curvature``, ``max_radius``. By default those of the paper, the squared Euclidean
            distance.
        **kwargs: Of mmpretrain's ``ClsHead``: ``loss``, ``topk``, ``cal_acc``, ``init_cfg``.

    Raises:
        ValueError: For fewer than two classes.
    """

    def __init__(self, num_classes: int | None = None, classifier: dict | None = None, **kwargs):
        super().__init__(**kwargs)
        check_at_least(2, num_classes=2 if num_classes is None else num_classes)
        self.num_classes = num_classes
        self.classifier = PrototypeClassifier(
            **(classifier or dict(distance='sqeuclidean', scale=1.0))
        )

    def prototypes_of(self, inputs: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Prototypes of a support.

        Args:
            inputs: Features of the neck, of which the last are vectors ``(N, C)``.
            labels: Classes ``(N,)``.

        Returns:
            Points ``(W, C)``.

        Raises:
            ValueError: If a class has no image, or a label is no class.
        """
        ways = int(labels.max()) + 1 if self.num_classes is None else self.num_classes
        return self.classifier.class_prototypes(self._vectors(inputs), labels, ways)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits ``(N, W)`` by the prototypes of the support.

        Args:
            feats: Features of the neck.

        Raises:
            RuntimeError: If no support has been set, or a logit is not finite.
        """
        logits = self.classifier.class_logits(self._vectors(feats), self.current_prototypes())
        if not self.training and not torch.isfinite(logits).all():
            raise RuntimeError(
                'PrototypicalClsHead: logits are not finite, since features or prototypes are not: '
                'look at the training loss and the weights'
            )
        return logits

    def _vectors(self, feats: Sequence[Tensor]) -> Tensor:
        found = self.pre_logits(feats)
        if found.ndim != 2:
            raise ValueError(
                'PrototypicalClsHead takes a vector of each image (N, C), got '
                f"{tuple(found.shape)}: add neck=dict(type='GlobalAveragePooling')"
            )
        return found
