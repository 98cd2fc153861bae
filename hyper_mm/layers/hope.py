"""Hyperbolic rotary position encoding (HELM)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops.stable import upcast


class HoPE(nn.Module):
    r"""Rotates pairs ``(2l, 2l + 1)`` of the space part by ``position * base^(-2l/dims)``.

    Rotations keep the norm, hence the time part: they are isometries that fix the origin, and
    Lorentzian scores depend on the difference of two positions alone.

    Args:
        dims: Space dimensions of a head, even.
        base: Base of the frequencies.

    Raises:
        ValueError: If ``dims`` is not even and positive.
    """

    def __init__(self, dims: int, base: float = 10000.0):
        super().__init__()
        if dims < 2 or dims % 2:
            raise ValueError(f'dims must be even and positive, got {dims}')
        self.dims, self.base = dims, base

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Rotates points ``(B, N, H, dims)`` whose first position is ``start``."""
        (x,) = upcast(x)
        table = self.table(x, start)
        return rotate(x, table.real, table.imag)

    def table(self, x: Tensor, start: int = 0) -> Tensor:
        """Unit complex numbers ``(N, 1, dims / 2)`` that rotate points ``(B, N, ...)``."""
        wide = {'dtype': torch.float64, 'device': x.device}
        positions = torch.arange(start, start + x.shape[1], **wide)
        rates = self.base ** (-torch.arange(0, self.dims, 2, **wide) / self.dims)
        angles = (positions[:, None] * rates)[:, None]
        dtype = torch.promote_types(x.dtype, torch.float32)
        return torch.complex(angles.cos().to(dtype), angles.sin().to(dtype))

    def extra_repr(self) -> str:
        return f'{self.dims}, base={self.base:g}'


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates pairs ``(2l, 2l + 1)`` of ``(..., d)`` by angles ``(..., d / 2)``."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)
