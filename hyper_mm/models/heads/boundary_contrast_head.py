"""Boundary contrast as an auxiliary head of any segmentor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from hyper_mm.layers.meta.structures import Structures, resolve_structures, structure_masks
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.registry import MODELS


@MODELS.register_module()
class BoundaryContrastHead(OwnInit, BaseModule):
    """Trains one feature map of the backbone with :class:`BoundaryInfoNCELoss`.

    It has no parameters and costs nothing at inference. For any mmseg model::

        auxiliary_head = dict(type='hyper_mm.BoundaryContrastHead', num_classes=2, in_index=-1)

    An image whose structure touches only pixels without a label, or that lacks a structure, adds
    no embedding; ``boundary_contrast/empty`` counts these regions.

    Args:
        num_classes: Number of classes of the label maps.
        in_index: Which of the features.
        structures: Classes of each structure, which may be nested; None for each class but
            ``background``.
        background: Class that is no structure, None if all are.
        ignore_index: Label of pixels without a class. A structure counts as ending there, but these
            pixels are in no band.
        loss: Config of the loss.
        init_cfg: Initialization config of mmengine.

    Raises:
        ValueError: If no class is a structure, or there is no such class.
    """

    def __init__(
        self,
        num_classes: int,
        in_index: int = -1,
        structures: Structures | None = None,
        background: int | None = 0,
        ignore_index: int = 255,
        loss: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.structures = resolve_structures(structures, num_classes, background)
        self.in_index = in_index
        self.ignore_index = ignore_index
        self.contrast = MODELS.build(dict(dict(type='hyper_mm.BoundaryInfoNCELoss'), **loss or {}))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """The feature map that is trained.

        Args:
            inputs: Feature maps of the backbone or neck.
        """
        return inputs[self.in_index]

    def loss(
        self, inputs: Sequence[Tensor], batch_data_samples: list, train_cfg: dict | None = None
    ) -> dict[str, Tensor]:
        """Loss of a batch.

        Args:
            inputs: Feature maps of the backbone or neck.
            batch_data_samples: Data samples with ``gt_sem_seg`` ``(1, H, W)``.
            train_cfg: Unused; mmseg passes it.

        Returns:
            ``loss_boundary``, and ``boundary_contrast/empty``, the number of empty regions.
        """
        labels = torch.stack([sample.gt_sem_seg.data for sample in batch_data_samples])
        masks = structure_masks(labels.squeeze(1), self.structures)
        found = self.contrast(self(inputs), masks, labels != self.ignore_index)
        return {
            'loss_boundary': found.loss,
            'boundary_contrast/empty': found.empty.to(found.loss.dtype),
        }
