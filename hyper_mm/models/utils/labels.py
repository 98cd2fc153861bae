"""Labels that fit a vocabulary."""

from __future__ import annotations

from torch import Tensor


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Raises ValueError unless all labels are in [0, ``num_classes``).

    Args:
        labels: Classes ``(B,)``.
        num_classes: Size of the vocabulary.
    """
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f'labels must be in [0, {num_classes}), the vocabulary, got '
            f'{labels.min().item()} to {labels.max().item()}'
        )
