"""Positive parameters of a geometry: the curvature and the scale of a lift."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...ops.inputs import is_readable


class LogParameter(nn.Module):
    r"""A positive number, stored as :math:`\log(\text{value} / \text{initial value})`.

    Weight decay then draws it to its initial value and not to 1. The parameter ``log`` is of shape
    ``(1,)``, since FSDP refuses 0-dimensional ones; the buffer ``log_initial`` ``(1,)`` is saved
    with it, so that a checkpoint means the same value in a module of another ``init``. Checkpoints
    of before, with a 0-dimensional logarithm of the value, are upgraded when they are loaded.

    The bounds hold by projection: training steps that leave them are moved back onto them at the
    next forward pass, so the gradient is never cut and the parameter can return. A trace
    (`torch.jit.trace`) has no projection, as its graphs cannot write to parameters.

    Args:
        init: Initial value, within ``bounds``.
        bounds: Smallest and largest value.
        learnable: Train it, or keep it as a buffer.
        name: What messages call it.

    Raises:
        ValueError: If ``bounds`` are not positive and ordered, or ``init`` is outside them.
    """

    log: Tensor
    log_initial: Tensor

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
        log = torch.zeros(1)
        if learnable:
            self.log = nn.Parameter(log)
        else:
            self.register_buffer('log', log)
        self.register_buffer('log_initial', torch.tensor([math.log(init)]))

    @property
    def learnable(self) -> bool:
        """Whether the parameter is trained."""
        return isinstance(self.log, nn.Parameter)

    @property
    def log_value(self) -> Tensor:
        """Logarithm of the value, a 0-dimensional tensor of at least float32."""
        log, initial = (
            x if x.dtype == torch.float64 else x.float() for x in (self.log, self.log_initial)
        )
        return (log + initial).squeeze(0)

    def forward(self) -> Tensor:
        """Returns the value, a 0-dimensional tensor of at least float32."""
        if self.training and self.learnable and not torch.jit.is_tracing():
            with torch.no_grad():
                low, high = self.log_bounds
                self.log.copy_(self.log.clamp(low - self.log_initial, high - self.log_initial))
        return self.log_value.exp()

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, metadata: dict, strict: bool, missing_keys: list,
        unexpected_keys: list, error_msgs: list,
    ) -> None:  # fmt: skip
        log, initial = state_dict.get(f'{prefix}log'), f'{prefix}log_initial'
        if log is not None and initial not in state_dict:
            if log.ndim:
                error_msgs.append(
                    f'{prefix}log must be the logarithm of the {self.name} as of old, of shape (), '
                    f'or have {initial} beside it, got shape {tuple(log.shape)} alone'
                )
                return
            state_dict[initial] = self.log_initial.detach().clone()
            state_dict[f'{prefix}log'] = (log.to(self.log_initial) - self.log_initial).to(log.dtype)
        for key in (f'{prefix}log', initial):
            found = state_dict.get(key)
            if found is not None and found.shape != (1,):
                error_msgs.append(
                    f'{key} ({self.name}) must have the shape (1,), got {tuple(found.shape)}'
                )
                return
        super()._load_from_state_dict(
            state_dict, prefix, metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

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

    def constant(self) -> Tensor | float:
        """Returns the curvature as a float where that costs nothing and no gradient is lost.

        That is on a processor, outside of compiled and traced code, if it is fixed or gradients are
        off: operations then neither check nor differentiate it again and again. Elsewhere it is
        what :meth:`forward` returns.
        """
        c = self()
        return c.item() if is_readable(c) and not c.requires_grad else c

    def at_bound(self) -> bool:
        """Whether the curvature sits on one of its bounds (reads the value).

        False where another process holds it: parameters that FSDP has sharded may be empty here.
        """
        if not self.log_value.numel():
            return False
        low, high = self.log_bounds
        return not low + 1e-4 < self.log_value.item() < high - 1e-4

    def train(self, mode: bool = True) -> Curvature:
        """Switches the mode; see :meth:`torch.nn.Module.train`."""
        if self.training and not mode and self.learnable and not self._warned and self.at_bound():
            self._warned = True
            warnings.warn(
                f'the learnable curvature has reached its bound ({self.log_value.exp().item():g}): '
                'widen `curvature.bounds`, fix it with `learnable=False`, or lower its learning '
                'rate',
                stacklevel=2,
            )
        return super().train(mode)


def curvature_options(
    curvature: float | Mapping[str, Any] | None, **defaults: Any
) -> dict[str, Any]:
    """Arguments of :class:`Curvature` for the argument ``curvature`` of a module.

    Args:
        curvature: The initial ``c``, arguments of :class:`Curvature`, or None.
        **defaults: Arguments where ``curvature`` does not set them.

    Returns:
        The arguments.

    Raises:
        TypeError: If ``curvature`` is neither a number, nor a dict, nor None.
    """
    if curvature is None:
        return defaults
    if isinstance(curvature, Mapping):
        return {**defaults, **curvature}
    if isinstance(curvature, (int, float)) and not isinstance(curvature, bool):
        return {**defaults, 'init': curvature}
    raise TypeError(
        f'curvature must be a number or arguments of Curvature, got {type(curvature).__name__}'
    )
