"""Dice over a whole batch as a loss for configs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hyper_mm.layers.meta.batch_dice import BatchDice
from hyper_mm.layers.meta.structures import Structures, resolve_structures, structure_masks
from hyper_mm.registry import MODELS

ACTIVATIONS = ('softmax', 'sigmoid')


@MODELS.register_module()
class BatchDiceLoss(nn.Module):
    """Loss of mmseg's decode heads with :class:`hyper_mm.layers.BatchDice`.

    Args:
        activation: ``'softmax'`` over classes, or ``'sigmoid'`` for structures that overlap.
        background: Channel left out of the mean (softmax), None for none. A head with one channel
            takes label 1 as its structure, with ``'sigmoid'``.
        structures: Classes of each structure, the union of which is what the dice is of (softmax);
            their probabilities are summed. None for each class.
        eps: See :class:`hyper_mm.layers.BatchDice`.
        loss_weight: Factor of the loss, at least 0.
        loss_name: Name in the log.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(
        self,
        activation: str = 'softmax',
        background: int | None = None,
        structures: Structures | None = None,
        eps: float = 1e-5,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_dice',
    ):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f'activation must be one of {ACTIVATIONS}, got {activation!r}')
        if not loss_weight >= 0:
            raise ValueError(f'loss_weight must be at least 0, got {loss_weight}')
        if structures is not None and activation == 'sigmoid':
            raise ValueError("structures must be None for 'sigmoid': each channel is one")
        self.dice = BatchDice(eps)
        self.activation, self.background, self.structures = activation, background, structures
        self.loss_weight, self.loss_name = loss_weight, loss_name

    def forward(
        self, pred: Tensor, target: Tensor, weight: None = None, ignore_index: int = 255
    ) -> Tensor:
        """Computes the weighted loss.

        Args:
            pred: Logits ``(B, C, H, W)``.
            target: Labels ``(B, H, W)``, or masks ``(B, C, H, W)`` of channels that may overlap.
            weight: Not supported; mmseg passes None without a pixel sampler.
            ignore_index: Label of pixels that do not count.

        Raises:
            ValueError: If there are weights, one channel with softmax, or no such class.
        """
        if weight is not None:
            raise ValueError('weight must be None: a dice over the batch has no pixel weights')
        channels = pred.shape[1]
        if channels == 1 and self.activation == 'softmax':
            raise ValueError("activation must be 'sigmoid' for one channel, got 'softmax'")
        structures = [[0]]
        if channels > 1:
            structures = resolve_structures(self.structures, channels, self.background)
        if target.ndim == 3:
            masks = structure_masks(target, [[1]] if channels == 1 else structures)
            valid = (target != ignore_index).unsqueeze(1)
        else:
            masks = torch.stack([(target[:, s] == 1).any(1) for s in structures], 1)
            valid = (target != ignore_index).all(1, keepdim=True)
        with torch.autocast(pred.device.type, enabled=False):
            pred = pred.to(torch.promote_types(pred.dtype, torch.float32))
            p = pred.softmax(1) if self.activation == 'softmax' else pred.sigmoid()
            p = torch.stack([p[:, s].sum(1) for s in structures], 1)
            return self.loss_weight * self.dice(p, masks, valid)
