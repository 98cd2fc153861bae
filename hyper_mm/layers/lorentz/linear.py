"""Linear map between hyperboloids (HELM; the form is Hypformer's HLT)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...ops.fused import to_ambient
from ...ops.inputs import upcast
from ...ops.products import linear


class LorentzLinear(nn.Module):
    r"""Linear map of an ambient point, time included, to the space components of another.

    .. math:: y = W\,[x_0;\, x] + b

    Several maps of the same points share one :func:`hyper_mm.ops.fused.to_ambient` by :meth:`map`.

    Args:
        in_dims: Space dimensions of the input (the weight has one column more, column 0 = time).
        out_dims: Space dimensions of the output.
        bias: Add a bias.

    Raises:
        ValueError: If a dimension is not positive.
    """

    def __init__(self, in_dims: int, out_dims: int, bias: bool = True):
        super().__init__()
        if in_dims < 1 or out_dims < 1:
            raise ValueError(f'in_dims and out_dims must be positive, got {in_dims}, {out_dims}')
        self.weight = nn.Parameter(torch.empty(out_dims, in_dims + 1))
        self.bias = nn.Parameter(torch.zeros(out_dims)) if bias else None
        nn.init.xavier_uniform_(self.weight, gain=math.sqrt(2))

    def forward(self, x: Tensor, c: Tensor | float) -> Tensor:
        """Maps points; :func:`hyper_mm.ops.lorentz.rescale` carries the result elsewhere.

        Args:
            x: Points ``(..., in_dims)``.
            c: Curvature.

        Returns:
            Points ``(..., out_dims)`` of the same curvature, in float32 or better.
        """
        return self.map(to_ambient(x, c))

    def map(self, ambient: Tensor) -> Tensor:
        """Maps ambient points ``(..., 1 + in_dims)`` to space components ``(..., out_dims)``."""
        out = linear(ambient.to(self.weight.dtype), (self.weight,), (self.bias,))
        return upcast(out)[0]
