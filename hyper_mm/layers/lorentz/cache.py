"""What attention keeps of the tokens seen so far."""

from __future__ import annotations

import torch
from torch import Tensor

from ...checks import check_at_least


class TokenCache:
    """Rows of numbers, one row a token, in a buffer that doubles when it is full.

    For decoding without gradients. One cache serves one attention layer.

    Args:
        capacity: Tokens that the buffer holds before it has to grow.

    Raises:
        ValueError: If ``capacity`` is not positive.
    """

    def __init__(self, capacity: int = 64) -> None:
        check_at_least(1, capacity=capacity)
        self.length, self.capacity = 0, capacity
        self._buffer: Tensor | None = None

    def append(self, rows: Tensor) -> Tensor:
        """Adds the rows of new tokens.

        Args:
            rows: ``(B, n, ...)``.

        Returns:
            The rows of all tokens ``(B, length, ...)``, a view.

        Raises:
            ValueError: If the batch size or the shape of a row changes, or there are gradients.
        """
        if rows.requires_grad:
            raise ValueError('a TokenCache is for decoding: call it under torch.no_grad()')
        first, end = rows.shape[:1], self.length + rows.shape[1]
        if self._buffer is None:
            self._buffer = rows.new_empty(*first, max(end, self.capacity), *rows.shape[2:])
        buffer = self._buffer
        if buffer.shape[:1] + buffer.shape[2:] != first + rows.shape[2:]:
            raise ValueError(
                f'rows must be as those before, {tuple(buffer.shape)}: {tuple(rows.shape)}'
            )
        if end > buffer.shape[1]:
            grown = rows.new_empty(*first, 2 * end, *rows.shape[2:])
            grown[:, : self.length] = buffer[:, : self.length]
            self._buffer = buffer = grown
        buffer[:, self.length : end] = rows
        self.length = end
        return buffer[:, :end]

    def reorder(self, sequences: Tensor) -> None:
        """Replaces the sequences of the batch by others of it, as a beam search does.

        Args:
            sequences: Their indices ``(B,)``.
        """
        if self._buffer is not None:
            self._buffer = self._buffer.index_select(0, sequences.to(self._buffer.device))

    @property
    def numbers_per_token(self) -> int:
        """Numbers kept a token of one sequence; 0 while empty."""
        return 0 if self._buffer is None else torch.Size(self._buffer.shape[2:]).numel()
