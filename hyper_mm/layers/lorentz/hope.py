"""Hyperbolic rotary position encoding (HELM)."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ...checks import check_positive
from ...compat import is_compiling
from ...deprecation import renamed_arguments
from ...ops.inputs import upcast


class HoPE(nn.Module):
    r"""Rotates pairs ``(2l, 2l + 1)`` of the space components by ``position * base^(-2l/d)``.

    Rotations keep the norm, hence the time part: they are isometries that fix the origin, and
    Lorentzian scores depend on the difference of two positions alone.

    Args:
        head_dims: Space dimensions ``d`` of a head, even.
        base: Base of the frequencies.
        scale: Factor of the positions. With 1/2, twice as many tokens turn by the angles that half
            of them were trained with.

    Raises:
        ValueError: If ``head_dims`` is not even and positive, or another is not positive.
    """

    @renamed_arguments(dims='head_dims')
    def __init__(self, head_dims: int, base: float = 10000.0, scale: float = 1.0):
        super().__init__()
        if head_dims < 2 or head_dims % 2:
            raise ValueError(f'head_dims must be even and positive, got {head_dims}')
        check_positive(base=base, scale=scale)
        self.head_dims, self.base, self.scale = head_dims, base, scale

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Rotates points ``(B, N, H, head_dims)`` whose first position is ``start``."""
        (x,) = upcast(x)
        table = self.table(x, start)
        return rotate(x, table.real, table.imag)

    def table(self, x: Tensor, start: int = 0) -> Tensor | Rotations:
        """Unit complex numbers ``(N, 1, head_dims / 2)`` that rotate points ``(B, N, ...)``."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        if start and x.shape[1] == 1 and not is_compiling():
            block, row = divmod(start, _BLOCK)
            kept = _kept(self.head_dims, self.base, self.scale, block, dtype, x.device)
            return kept[row : row + 1]
        own = self.head_dims, self.base, self.scale
        return _table(*own, start, x.shape[1], dtype, x.device)

    def extra_repr(self) -> str:
        return f'{self.head_dims}, base={self.base:g}, scale={self.scale:g}'


def _table(head_dims, base, scale, start, count, dtype, device) -> Tensor | Rotations:
    wide = {'dtype': torch.float64, 'device': device}
    positions = scale * torch.arange(start, start + count, **wide)
    rates = base ** (-torch.arange(0, head_dims, 2, **wide) / head_dims)
    angles = (positions[:, None] * rates)[:, None]
    return rotations(angles, dtype)


_BLOCK = 256


@lru_cache(maxsize=16)
def _kept(head_dims, base, scale, block, dtype, device) -> Tensor:
    """Tables of a few positions, for the layers and steps of decoding."""
    with torch.inference_mode(False):
        table = _table(head_dims, base, scale, block * _BLOCK, _BLOCK, dtype, device)
        return cast(Tensor, table)  # no parts: only eager code keeps tables


class Rotations(NamedTuple):
    """Unit complex numbers by their parts, where code is recorded: exporters know none.

    Attributes:
        real: Cosines.
        imag: Sines.
    """

    real: Tensor
    imag: Tensor


def rotations(angles: Tensor, dtype: torch.dtype) -> Tensor | Rotations:
    """Unit complex numbers of angles in float64, in parts of another dtype."""
    parts = angles.cos(), angles.sin()
    if is_compiling():
        # stacked, a compiler writes them out; otherwise it computes them for each head and image
        return Rotations(*torch.stack(parts).to(dtype).unbind())
    return torch.complex(*(part.to(dtype) for part in parts))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates pairs ``(2l, 2l + 1)`` of ``(..., d)`` by angles ``(..., d / 2)``."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)
