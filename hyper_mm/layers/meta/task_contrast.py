"""Contrast of tasks: an auxiliary objective for representations that tell tasks apart."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...checks import check_positive
from ...ops.stable import unit


class TaskContrast(nn.Module):
    r"""Support and query of one task are alike, those of different tasks are not.

    .. math:: L = \frac1{2T} \sum_t \left[
        -\log \frac{e^{\langle s_t, q_t \rangle / \tau}}{\sum_u e^{\langle s_t, q_u \rangle / \tau}}
        -\log \frac{e^{\langle s_t, q_t \rangle / \tau}}{\sum_u e^{\langle s_u, q_t \rangle / \tau}}
        \right]

    s and q are the representations of support and query, of norm 1. Two tasks of one group (of the
    same domain, or of the same classes) are no negatives of each other. With the InfoNCE of van den
    Oord et al., Representation Learning with Contrastive Predictive Coding, 2018.

    Args:
        temperature: tau.

    Raises:
        ValueError: If the temperature is not positive.
    """

    def __init__(self, temperature: float = 0.1):
        super().__init__()
        check_positive(temperature=temperature)
        self.temperature = temperature

    def forward(
        self, support: Tensor, query: Tensor, groups: Sequence[Hashable] | None = None
    ) -> Tensor:
        """Computes the loss.

        Args:
            support: A vector of each task ``(T, C)``.
            query: Likewise.
            groups: Group of each task; None for each its own.

        Returns:
            The loss in float32 or better; 0 where no task has a negative.

        Raises:
            ValueError: If the shapes differ, or there is not one group for each task.
        """
        if support.shape != query.shape or support.ndim != 2:
            raise ValueError(
                'support and query must be (T, C) both, got '
                f'{tuple(support.shape)} and {tuple(query.shape)}'
            )
        count = len(support)
        groups = range(count) if groups is None else groups
        if len(groups) != count:
            raise ValueError(f'groups must be one for each of {count} tasks, got {len(groups)}')
        with torch.autocast(support.device.type, enabled=False):
            wide = torch.promote_types(support.dtype, torch.float32)
            cosines = unit(support.to(wide)) @ unit(query.to(wide)).T
            same = [[a == b and i != j for j, b in enumerate(groups)] for i, a in enumerate(groups)]
            mask = torch.tensor(same, dtype=torch.bool, device=support.device)
            logits = (cosines / self.temperature).masked_fill(mask.view(count, count), -torch.inf)
            target = torch.arange(count, device=support.device)
            return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    def extra_repr(self) -> str:
        """The options."""
        return f'temperature={self.temperature:g}'
