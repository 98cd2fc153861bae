"""What few-shot models by prototypes share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from torch import Tensor, nn

from .episodic_model import Batch, EpisodicModel


class PrototypicalModel(EpisodicModel):
    """Trains and runs a model whose head has the prototypes of a support.

    Given episodes, it predicts the query of each by its own support. Given images, as the
    inferencers give them, it needs :meth:`set_support` before.

    Args:
        model: Model of the framework or its config.
        data_preprocessor: See :class:`EpisodicModel`.
        init_cfg: Initialization config of mmengine.
        **kwargs: Of :class:`EpisodicModel`.

    Raises:
        TypeError: If its head takes no support.
    """

    head_name: str
    """Attribute of the model that is its head."""
    head_type: str
    """Component that the head must be, for messages."""

    def __init__(
        self,
        model: dict | BaseModel,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        **kwargs,
    ):
        super().__init__(model, data_preprocessor, init_cfg, **kwargs)
        head = self.support_head
        if not hasattr(head, 'set_support'):
            raise TypeError(
                f'{self.head_name} must be a {self.head_type}, got {type(head).__name__}'
            )

    @property
    def support_head(self) -> nn.Module:
        """The head that has the prototypes."""
        return getattr(self.model, self.head_name)

    def features(self, batch: Batch) -> Sequence[Tensor]:
        """Features of a batch, as the head takes them.

        Args:
            batch: With ``inputs``.
        """
        return self.model.extract_feat(batch['inputs'])

    def labels(self, batch: Batch) -> Tensor:
        """Labels of a batch.

        Args:
            batch: With ``data_samples``.
        """
        raise NotImplementedError

    @torch.no_grad()
    def set_support(self, items: Sequence[dict]) -> None:
        """Sets the support by which images are predicted from now on, in all threads.

        It is not saved. Episodes, which hold a support of their own, do not touch it.

        Args:
            items: Packed items with labels, as a data set of the framework returns them, with the
                labels of an episode.
        """
        batch = self.data_preprocessor(pseudo_collate(list(items)), True)
        self.support_head.set_support(self.features(batch), self.labels(batch))

    def episode_predict(self, support: Batch, query: list[Batch]) -> list:
        """Predicts the query.

        Args:
            support: Batch of the prototypes.
            query: Batches to predict.
        """
        head = self.support_head
        with head.using(head.prototypes_of(self.features(support), self.labels(support))):
            return [x for batch in query for x in self.model(**batch, mode='predict')]
