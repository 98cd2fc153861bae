"""Normalization and residual connection of points of the hyperboloid (HELM)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...ops.fused import normalised_sum, rms_norm


class LorentzRMSNorm(nn.Module):
    r"""Root-mean-square norm of a point, :math:`y = \gamma x / \sqrt{\bar{x^2} + \epsilon}`.

    The time part follows from ``y``. The paper prints it with a norm that is not squared, which
    leaves the hyperboloid; this is the form of the official code.

    Args:
        dims: Space dimensions.
        eps: Added to the mean square.
    """

    def __init__(self, dims: int, eps: float = 1e-8):
        super().__init__()
        if dims < 1 or not eps > 0:
            raise ValueError(f'dims and eps must be positive, got {dims}, {eps}')
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dims))

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes points ``(..., dims)``, in float32 or better."""
        return rms_norm(x, self.weight, self.eps)


def lorentz_sum(
    x: Tensor, y: Tensor, weight: Tensor, c: Tensor | float, scale: Tensor | float = 1.0
) -> Tensor:
    """Sum ``x + weight y`` of two points; see :func:`hyper_mm.ops.fused.normalised_sum`."""
    return normalised_sum((x, y), (weight,), c, scale)


class LorentzResidual(nn.Module):
    r"""Residual connection :math:`x \oplus y` by :func:`lorentz_sum`; its weight is learned.

    Args:
        scale: Factor ``s`` of the space components (HELM-D: 4 sqrt(dim), HELM-MiCE: sqrt(dim)).
        weight: Weight of ``y`` at initialization.
    """

    def __init__(self, scale: float = 1.0, weight: float = 1.0):
        super().__init__()
        if not 0 < weight < math.inf:
            raise ValueError(f'weight must be positive and finite, got {weight}')
        if not scale > 0:
            raise ValueError(f'scale must be positive, got {scale}')
        self.scale = scale
        self.weight = nn.Parameter(torch.tensor(float(weight)))

    def forward(self, x: Tensor, y: Tensor, c: Tensor | float) -> Tensor:
        """Adds points ``y`` to points ``x``, both ``(..., d)``, of curvature ``-c``."""
        return lorentz_sum(x, y, self.weight, c, self.scale)

    def extra_repr(self) -> str:
        return f'scale={self.scale:g}'
