"""Normalisation and residual connection of points of the hyperboloid (HELM)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops import lorentz
from ..ops.stable import upcast


class LorentzRMSNorm(nn.Module):
    r"""Root-mean-square norm of the space part, :math:`y = \gamma x / \sqrt{\bar{x^2} + \epsilon}`.

    The time part follows from ``y``. The paper prints it with a norm that is not squared, which
    leaves the hyperboloid; this is the released code's form.

    Args:
        dims: Space dimensions.
        eps: Added to the mean square.
    """

    def __init__(self, dims: int, eps: float = 1e-8):
        super().__init__()
        if dims < 1 or eps <= 0:
            raise ValueError(f'dims and eps must be positive, got {dims}, {eps}')
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dims))

    def forward(self, x: Tensor) -> Tensor:
        """Normalises points ``(..., dims)``, in float32 or better."""
        (x,) = upcast(x)
        return x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight


def lorentz_sum(
    x: Tensor, y: Tensor, weight: Tensor, c: Tensor | float, scale: Tensor | float = 1.0
) -> Tensor:
    r"""Weighted sum of two points, brought back to the hyperboloid.

    .. math:: s\,\frac{u_s}{\sqrt{c\,\lvert\langle u, u\rangle_{\mathcal L}\rvert}},\qquad
        u = x + w y,\qquad -\langle u, u \rangle_{\mathcal L} = \frac{(1 + w)^2}{c}
        + w \lVert x - y \rVert_{\mathcal L}^2

    The chord on the right keeps the digits that a difference of the squares of ``u`` loses far out.
    Only ``w < 0`` can bring the sum to zero; its modulus is then kept above ``1e-6 / c``.

    Args:
        x: Points ``(..., d)``.
        y: Points ``(..., d)``.
        weight: ``w``, 0-dimensional or ``(..., 1)``.
        c: Curvature.
        scale: ``s``, of the space part.

    Returns:
        Points ``(..., d)``, in float32 or better.
    """
    x, y = upcast(x, y)
    difference = x - y
    time = lorentz.time(x, c, keepdim=True) - lorentz.time(y, c, keepdim=True)
    chord = difference.square().sum(-1, keepdim=True) - time.square()
    norm = ((1 + weight).square() + c * weight * chord).abs().clamp_min(1e-6)
    return (x + weight * y) * (scale * norm.rsqrt())


class LorentzResidual(nn.Module):
    r"""Residual connection :math:`x \oplus y` by :func:`lorentz_sum`; its weight is learnt.

    Args:
        scale: Factor ``s`` of the space part (HELM-D: 4 sqrt(dim), HELM-MiCE: sqrt(dim)).
    """

    def __init__(self, scale: float = 1.0):
        super().__init__()
        if scale <= 0:
            raise ValueError(f'scale must be positive, got {scale}')
        self.scale = scale
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, y: Tensor, c: Tensor | float) -> Tensor:
        """Adds points ``y`` to points ``x``, both ``(..., d)``, of curvature ``-c``."""
        return lorentz_sum(x, y, self.weight, c, self.scale)

    def extra_repr(self) -> str:
        return f'scale={self.scale:g}'
