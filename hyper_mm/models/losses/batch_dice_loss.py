"""Dice over a whole batch as a loss for configs."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from hyper_mm.checks import check_at_least, check_choice
from hyper_mm.layers.meta.batch_dice import BatchDice
from hyper_mm.layers.meta.structures import Structures, resolve_structures, structure_masks
from hyper_mm.registry import MODELS

ACTIVATIONS = ('softmax', 'sigmoid')
BLANK = 10
"""Batches without a class after which a warning is due."""


@MODELS.register_module()
class BatchDiceLoss(nn.Module):
    """Loss of mmseg's decode heads with :class:`hyper_mm.layers.BatchDice`.

    Labels are checked: one that is no class would count as background. Masks of 0 and 255 hold no
    class at all, since 255 means no label; a warning says so where the first batches are all so.

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
        ValueError: For an unknown activation, a negative weight, or structures with ``'sigmoid'``.
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
        check_choice(ACTIVATIONS, activation=activation)
        check_at_least(0, loss_weight=loss_weight)
        if structures is not None and activation == 'sigmoid':
            raise ValueError("structures must be None for 'sigmoid': each channel is one")
        self.dice = BatchDice(eps)
        self.activation, self.background, self.structures = activation, background, structures
        self.loss_weight, self.loss_name = loss_weight, loss_name
        self._blank = 0

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
            ValueError: If there are weights, one channel with softmax, or labels that are no class.
        """
        if weight is not None:
            raise ValueError('weight must be None: a dice over the batch has no pixel weights')
        channels = pred.shape[1]
        if channels == 1 and self.activation == 'softmax':
            raise ValueError("activation must be 'sigmoid' for one channel, got 'softmax'")
        limit = 2 if channels == 1 or target.ndim == 4 else channels
        self._check(target, limit, ignore_index)
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

    def _check(self, target: Tensor, limit: int, ignore_index: int) -> None:
        """Refuses labels that are neither below ``limit`` nor ignored."""
        ignored = target == ignore_index
        known = (target >= 0) & (target < limit) | ignored
        if not known.all():
            raise ValueError(
                f'labels must be 0..{limit - 1} or ignore_index={ignore_index}, got '
                f'{target[~known].unique()[:5].tolist()}: masks hold numbers of classes'
            )
        if 0 <= self._blank < BLANK:
            blank = ignored.any() and (ignored | (target == 0)).all()
            self._blank = self._blank + 1 if blank else -1
            if self._blank == BLANK:
                warnings.warn(
                    f'the labels of the first {BLANK} batches are 0 and ignore_index='
                    f'{ignore_index} alone: in masks of 0 and 255 nothing is labeled',
                    stacklevel=2,
                )
