"""Positive parameters of a geometry: the curvature and the scale of a lift."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn


class LogParameter(nn.Module):
    """A positive number, stored as its logarithm and kept within bounds.

    The bounds hold by projection: training steps that leave them are moved back onto them at the
    next forward pass, so the gradient is never cut and the parameter can return.

    Args:
        init: Initial value, within ``bounds``.
        bounds: Smallest and largest value.
        learnable: Train it, or keep it as a buffer.
        name: What messages call it.

    Raises:
        ValueError: If ``bounds`` are not positive and ordered, or ``init`` is outside them.
    """

    def __init__(
        self,
        init: float = 1.0,
        bounds: tuple[float, float] = (1e-6, 1e6),
        learnable: bool = True,
        name: str = 'value',
    ):
        super().__init__()
        low, high = bounds
        if not 0 < low <= high < math.inf:
            raise ValueError(f'{name} bounds must be positive, finite and ordered, got {bounds}')
        if not low <= init <= high:
            raise ValueError(f'{name} init must be positive and within {tuple(bounds)}, got {init}')
        self.name = name
        self.log_bounds = math.log(low), math.log(high)
        log = torch.tensor(math.log(init))
        if learnable:
            self.log = nn.Parameter(log)
        else:
            self.register_buffer('log', log)

    @property
    def learnable(self) -> bool:
        """Whether the parameter is trained."""
        return isinstance(self.log, nn.Parameter)

    def forward(self) -> Tensor:
        """Returns the value, a 0-dimensional tensor of at least float32."""
        if self.training and self.learnable:
            with torch.no_grad():
                self.log.clamp_(*self.log_bounds)
        log = self.log if self.log.dtype == torch.float64 else self.log.float()
        return log.exp()

    def extra_repr(self) -> str:
        low, high = (math.exp(b) for b in self.log_bounds)
        return f'{self.name}, bounds=({low:g}, {high:g}), learnable={self.learnable}'


class Curvature(LogParameter):
    """Curvature ``-c`` of a space, shared by all who live in it.

    Warns once, on the switch to evaluation, when training has driven it to a bound.

    Args:
        init: Initial ``c``.
        bounds: Smallest and largest ``c``.
        learnable: Train it.
    """

    def __init__(
        self,
        init: float = 1.0,
        bounds: tuple[float, float] = (0.1, 10.0),
        learnable: bool = True,
    ):
        super().__init__(init, bounds, learnable, name='curvature')
        self._warned = False

    def at_bound(self) -> bool:
        """Whether the curvature sits on one of its bounds (reads the value)."""
        low, high = self.log_bounds
        return not low + 1e-4 < self.log.item() < high - 1e-4

    def train(self, mode: bool = True) -> Curvature:
        """Switches the mode; see :meth:`torch.nn.Module.train`."""
        if self.training and not mode and self.learnable and not self._warned and self.at_bound():
            self._warned = True
            warnings.warn(
                f'the learnable curvature has reached its bound ({math.exp(self.log.item()):g}): '
                'widen `curvature.bounds`, fix it with `learnable=False`, or lower its learning '
                'rate',
                stacklevel=2,
            )
        return super().train(mode)
