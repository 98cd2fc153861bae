"""Normalization and residual connection of points of the hyperboloid (HELM)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...checks import check_positive, check_range
from ...deprecation import renamed_arguments
from ...ops.fused import normalized_sum, rms_norm
from ..common.single_numbers import SingleNumbers


class LorentzRMSNorm(nn.Module):
    r"""Root-mean-square norm of a point, :math:`y = \gamma x / \sqrt{\bar{x^2} + \epsilon}`.

    The time part follows from ``y``. The paper prints it with a norm that is not squared, which
    leaves the hyperboloid; this is the form of the official code.

    Args:
        embed_dims: Space dimensions.
        eps: Added to the mean square.
    """

    @renamed_arguments(dims='embed_dims')
    def __init__(self, embed_dims: int, eps: float = 1e-8):
        super().__init__()
        if embed_dims < 1 or not eps > 0:
            raise ValueError(f'embed_dims and eps must be positive, got {embed_dims}, {eps}')
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(embed_dims))

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes points ``(..., embed_dims)``, in float32 or better."""
        return rms_norm(x, self.weight, self.eps)


def lorentz_sum(
    x: Tensor, y: Tensor, weight: Tensor, c: Tensor | float, scale: Tensor | float = 1.0
) -> Tensor:
    """Sum ``x + weight y`` of two points; see :func:`hyper_mm.ops.fused.normalized_sum`."""
    return normalized_sum((x, y), (weight,), c, scale)


class LorentzResidual(SingleNumbers, nn.Module):
    r"""Residual connection :math:`x \oplus y` by :func:`lorentz_sum`; its weight is learned.

    Args:
        scale: Factor ``s`` of the space components (HELM-D: 4 sqrt(dim), HELM-MiCE: sqrt(dim)).
        weight: Weight of ``y`` at initialization.
    """

    numbers = ('weight',)

    def __init__(self, scale: float = 1.0, weight: float = 1.0):
        super().__init__()
        check_range('(0, inf)', weight=weight)
        check_positive(scale=scale)
        self.scale = scale
        self.weight = nn.Parameter(torch.tensor([float(weight)]))

    def forward(self, x: Tensor, y: Tensor, c: Tensor | float) -> Tensor:
        """Adds points ``y`` to points ``x``, both ``(..., d)``, of curvature ``-c``."""
        return lorentz_sum(x, y, self.weight, c, self.scale)

    def extra_repr(self) -> str:
        return f'scale={self.scale:g}'
