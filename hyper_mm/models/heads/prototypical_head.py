"""Nearest-prototype head of few-shot segmentors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from hyper_mm.checks import check_at_least
from hyper_mm.layers.meta.prototypes import PrototypeClassifier
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.registry import MODELS

from .support_head import SupportHead


@MODELS.register_module()
class PrototypicalHead(SupportHead, OwnInit, BaseModule):
    """Decode head without weights, trained and used within ``hyper_mm.PrototypicalSegmentor``.

    Labels of an episode are 0 for the background and 1 ... W for its ways. See
    :class:`hyper_mm.layers.PrototypeClassifier`.

    Args:
        num_classes: 1 + W.
        in_index: Which of the features.
        align_weight: Weight of the alignment loss, 0 leaves it out.
        ignore_index: Label of pixels without a class.
        classifier: Arguments of the classifier: ``distance``, ``scale``, ``feature_scale``,
            ``curvature``, ``max_radius``.
        init_cfg: Initialization config of mmengine.

    Raises:
        ValueError: For fewer than two classes or a negative weight.
    """

    align_corners = False

    def __init__(
        self,
        num_classes: int = 2,
        in_index: int = -1,
        align_weight: float = 1.0,
        ignore_index: int = 255,
        classifier: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        check_at_least(2, num_classes=num_classes)
        check_at_least(0, align_weight=align_weight)
        self.num_classes = self.out_channels = num_classes
        self.in_index, self.align_weight, self.ignore_index = in_index, align_weight, ignore_index
        self.classifier = PrototypeClassifier(**(classifier or {}))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits at feature size, by the prototypes of the last support.

        Args:
            inputs: Feature maps of the backbone or neck.

        Raises:
            RuntimeError: If no support has been set.
        """
        return self.classifier.logits(inputs[self.in_index], self.current_prototypes())

    def masks(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Masks of the ways ``(W, K, H, W)`` and of the background ``(K, H, W)``.

        Args:
            labels: Label maps ``(K, H, W)``.

        Raises:
            ValueError: If a label is no class of the episode.
        """
        known = (labels >= 0) & (labels < self.num_classes) | (labels == self.ignore_index)
        if not known.all():
            raise ValueError(
                f'labels of an episode must be 0..{self.num_classes - 1} or {self.ignore_index}, '
                f'got {labels[~known].unique().tolist()}'
            )
        return torch.stack([labels == k for k in range(1, self.num_classes)]), labels == 0

    def prototypes_of(self, inputs: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Prototypes of a support.

        Args:
            inputs: Feature maps of the support images.
            labels: Their label maps ``(K, H, W)``.
        """
        return self.classifier.prototypes(inputs[self.in_index], *self.masks(labels))

    def episode_loss(
        self,
        support: Sequence[Tensor],
        support_labels: Tensor,
        query: Sequence[Tensor],
        query_labels: Tensor,
    ) -> dict[str, Tensor]:
        """Losses of an episode.

        Args:
            support: Feature maps of the support images.
            support_labels: Their label maps ``(K, H, W)``.
            query: Feature maps of the query images.
            query_labels: Their label maps ``(N, H, W)``.

        Returns:
            ``loss_ce`` and ``loss_align``.
        """
        fore, back = self.masks(support_labels)
        supp, quer = support[self.in_index], query[self.in_index]
        low = self.classifier.logits(quer, self.classifier.prototypes(supp, fore, back))
        high = F.interpolate(low, query_labels.shape[-2:], mode='bilinear')
        counted = (query_labels != self.ignore_index).sum().clamp(min=1)
        total = F.cross_entropy(high, query_labels, ignore_index=self.ignore_index, reduction='sum')
        losses = dict(loss_ce=total / counted)
        if self.align_weight:
            align = self.classifier.alignment_loss(quer, low, supp, fore, back)
            losses['loss_align'] = self.align_weight * align
        return losses

    def loss(self, inputs, batch_data_samples, train_cfg=None):
        """Not defined for a batch without a support.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            'PrototypicalHead is trained on episodes: wrap the model in '
            "dict(type='hyper_mm.PrototypicalSegmentor', model=...)"
        )

    def predict(self, inputs: Sequence[Tensor], batch_img_metas: list[dict], test_cfg) -> Tensor:
        """Logits at image size; see mmseg's decode heads.

        Args:
            inputs: Feature maps of the query images.
            batch_img_metas: Of mmseg.
            test_cfg: Unused; mmseg passes it.

        Raises:
            RuntimeError: If a logit is not finite, which mmseg would take for the background.
        """
        logits = self(inputs)
        if not logits.isfinite().all():
            where = 'prototypes' if not self.current_prototypes().isfinite().all() else 'features'
            raise RuntimeError(
                f'PrototypicalHead: logits are not finite, since the {where} are not: look at the '
                'training loss and the weights'
            )
        meta = batch_img_metas[0]
        whole = not isinstance(meta['img_shape'], torch.Size) and 'pad_shape' in meta
        size = meta['pad_shape' if whole else 'img_shape'][:2]
        return F.interpolate(logits, tuple(size), mode='bilinear')
