"""Dice over a whole batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...checks import check_positive


class BatchDice(nn.Module):
    r"""Dice loss whose sums run over the whole batch, averaged over the channels.

    .. math:: L = 1 - \frac1C \sum_c \frac{2 \sum_i p_{ci} y_{ci} + \epsilon}
        {\sum_i p_{ci} + \sum_i y_{ci} + \epsilon}

    mmseg's ``DiceLoss`` squares the terms of the denominator and averages over images instead.
    Source: the official code of FedDG (CVPR 2021).

    Args:
        eps: Added to numerator and denominator; decides what an empty channel costs.

    Raises:
        ValueError: If ``eps`` is not positive.
    """

    def __init__(self, eps: float = 1e-5):
        super().__init__()
        check_positive(eps=eps)
        self.eps = eps

    def forward(self, p: Tensor, y: Tensor, valid: Tensor | None = None) -> Tensor:
        """Computes the loss.

        Args:
            p: Probabilities ``(B, C, H, W)``.
            y: 0/1 masks of the same shape.
            valid: Pixels that count ``(B, 1, H, W)``; all if None.

        Returns:
            The loss, 0-dimensional, in float32 or better.

        Raises:
            ValueError: If the shapes differ.
        """
        if p.shape != y.shape:
            raise ValueError(f'p and y must have one shape, got {(*p.shape,)} and {(*y.shape,)}')
        p = p.to(torch.promote_types(p.dtype, torch.float32))
        y = y.to(p.dtype)
        if valid is not None:
            p, y = p * valid, y * valid
        dims = (0, 2, 3)
        total = p.sum(dims) + y.sum(dims)
        return 1 - ((2 * (p * y).sum(dims) + self.eps) / (total + self.eps)).mean()

    def extra_repr(self) -> str:
        """The options."""
        return f'eps={self.eps}'
