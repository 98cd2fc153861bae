"""Few-shot segmentors without inner steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor

from hyper_mm.registry import MODELS

from .episodic_model import Batch, EpisodicModel


@MODELS.register_module()
class PrototypicalSegmentor(EpisodicModel):
    """Trains and runs a segmentor with a :class:`hyper_mm.PrototypicalHead` on episodes.

    Given episodes, it segments the query of each by its own support. Given images, as mmseg's
    inferencers and ``inference_model`` give them, it needs :meth:`set_support` before.

    Args:
        model: mmseg's ``EncoderDecoder`` or its config.
        data_preprocessor: See :class:`EpisodicModel`.
        init_cfg: Initialization config of mmengine.
        **kwargs: Of :class:`EpisodicModel`.

    Raises:
        TypeError: If its decode head takes no support.
    """

    def __init__(
        self,
        model: dict,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        **kwargs,
    ):
        super().__init__(model, data_preprocessor, init_cfg, **kwargs)
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

    @torch.no_grad()
    def set_support(self, items: Sequence[dict]) -> None:
        """Sets the support by which images are segmented from now on, in all threads.

        It is not saved. Episodes, which hold a support of their own, do not touch it.

        Args:
            items: Packed items with labels, as a data set of mmseg returns them, each with labels
                0 (background) to W.
        """
        batch = self.data_preprocessor(pseudo_collate(list(items)), True)
        features = self.model.extract_feat(batch['inputs'])
        self.model.decode_head.set_support(features, _labels(batch))

    def episode_predict(self, support: Batch, query: list[Batch]) -> list:
        """Segments the query.

        Args:
            support: Batch of the prototypes.
            query: Batches to segment.
        """
        head = self.model.decode_head
        features = self.model.extract_feat(support['inputs'])
        with head.using(head.prototypes_of(features, _labels(support))):
            return [x for batch in query for x in self.model(**batch, mode='predict')]


def _labels(batch: Batch) -> Tensor:
    return torch.cat([sample.gt_sem_seg.data for sample in batch['data_samples']])
