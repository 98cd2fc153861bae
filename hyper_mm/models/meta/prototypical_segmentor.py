"""Few-shot segmentors without inner steps."""

from __future__ import annotations

import torch
from torch import Tensor

from hyper_mm.registry import MODELS

from .episodic_model import Batch, EpisodicModel


@MODELS.register_module()
class PrototypicalSegmentor(EpisodicModel):
    """Trains and runs a segmentor with a :class:`hyper_mm.PrototypicalHead` on episodes.

    Args:
        model: mmseg's ``EncoderDecoder`` or its config.
        data_preprocessor: See :class:`EpisodicModel`.
        init_cfg: As in mmengine.

    Raises:
        TypeError: If its decode head takes no support.
    """

    def __init__(
        self,
        model: dict,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(model, data_preprocessor, init_cfg)
        if not hasattr(self.model.decode_head, 'set_support'):
            head = type(self.model.decode_head).__name__
            raise TypeError(f'decode_head must be a hyper_mm.PrototypicalHead, got {head}')

    def episode_loss(self, support: Batch, query: Batch) -> dict[str, Tensor]:
        """Losses of an episode; see :meth:`hyper_mm.PrototypicalHead.episode_loss`.

        Args:
            support: Batch of the prototypes.
            query: Batch to segment.
        """
        parts = [
            part
            for batch in (support, query)
            for part in (self.model.extract_feat(batch['inputs']), _labels(batch))
        ]
        return self.model.decode_head.episode_loss(*parts)

    def episode_predict(self, support: Batch, query: list[Batch]) -> list:
        """Segments the query.

        Args:
            support: Batch of the prototypes.
            query: Batches to segment.
        """
        head = self.model.decode_head
        head.set_support(self.model.extract_feat(support['inputs']), _labels(support))
        try:
            return [x for batch in query for x in self.model(**batch, mode='predict')]
        finally:
            head.prototypes = None


def _labels(batch: Batch) -> Tensor:
    return torch.cat([sample.gt_sem_seg.data for sample in batch['data_samples']])
