"""Few-shot classifiers without inner steps."""

from __future__ import annotations

import torch
from torch import Tensor

from hyper_mm.registry import MODELS

from .episodic_model import Batch
from .prototypical_model import PrototypicalModel


@MODELS.register_module()
class PrototypicalClassifier(PrototypicalModel):
    """Trains and runs mmpretrain's ``ImageClassifier`` with a ``hyper_mm.PrototypicalClsHead``.

    Labels of a support are 0 to W - 1. Arguments are those of :class:`PrototypicalModel`.

    Source: Snell et al., Prototypical Networks for Few-shot Learning, NeurIPS 2017.
    """

    head_name, head_type = 'head', 'hyper_mm.PrototypicalClsHead'

    def labels(self, batch: Batch) -> Tensor:
        """Classes ``(N,)``.

        Args:
            batch: With ``data_samples``.
        """
        return torch.cat([sample.gt_label for sample in batch['data_samples']])

    def episode_loss(self, support: Batch, query: Batch) -> dict[str, Tensor]:
        """Loss of the head on the query, by the prototypes of the support.

        Args:
            support: Batch of the prototypes.
            query: Batch to classify.
        """
        head = self.support_head
        with head.using(head.prototypes_of(self.features(support), self.labels(support))):
            return self.model(**query, mode='loss')
