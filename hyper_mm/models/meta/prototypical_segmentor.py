"""Few-shot segmentors without inner steps."""

from __future__ import annotations

import torch
from torch import Tensor

from hyper_mm.registry import MODELS

from .episodic_model import Batch
from .prototypical_model import PrototypicalModel


@MODELS.register_module()
class PrototypicalSegmentor(PrototypicalModel):
    """Trains and runs mmseg's ``EncoderDecoder`` with a :class:`hyper_mm.PrototypicalHead`.

    Labels of a support are 0 (background) to W. Arguments are those of :class:`PrototypicalModel`.
    """

    head_name, head_type = 'decode_head', 'hyper_mm.PrototypicalHead'

    def labels(self, batch: Batch) -> Tensor:
        """Label maps ``(K, H, W)``.

        Args:
            batch: With ``data_samples``.
        """
        return torch.cat([sample.gt_sem_seg.data for sample in batch['data_samples']])

    def episode_loss(self, support: Batch, query: Batch) -> dict[str, Tensor]:
        """Losses of an episode; see :meth:`hyper_mm.PrototypicalHead.episode_loss`.

        Args:
            support: Batch of the prototypes.
            query: Batch to segment.
        """
        parts = (
            x for batch in (support, query) for x in (self.features(batch), self.labels(batch))
        )
        return self.support_head.episode_loss(*parts)
