"""What is spelled as in the official code of HIER (the losses of LatHAdapter), for parity alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ...ops.stable import safe_norm


class RiemannianGradient(torch.autograd.Function):
    """Identity; the gradient is scaled by ``(1 - c |z|^2)^2 / 4``, as in HIER's official code.

    The tangents of forward mode are scaled likewise: it is the same linear map, its own transpose.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, c: float) -> Tensor:
        return z.clone()  # a view would have to have views as tangents

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, float], output: Tensor) -> None:
        z, ctx.c = inputs
        ctx.save_for_backward(z)
        ctx.save_for_forward(z)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        return grad * _rate(z, ctx.c), None

    @staticmethod
    def jvp(ctx, tangent: Tensor, _: None) -> Tensor:
        (z,) = ctx.saved_tensors
        return tangent * _rate(z, ctx.c)


def _rate(z: Tensor, c: float) -> Tensor:
    return (1 - c * z.square().sum(-1, keepdim=True)).square() / 4


def official_pairwise_dist(x: Tensor, y: Tensor, c: float) -> Tensor:
    """Distances of HIER's official code, for parity: 1e-5 is added to a Moebius denominator.

    Args:
        x: Points ``(n, d)``.
        y: Points ``(m, d)``.
        c: Curvature.

    Returns:
        Distances ``(n, m)``.
    """
    dot = -(x @ y.mT)
    x2, y2 = x.square().sum(-1, keepdim=True), y.square().sum(-1)
    denominator = 1 + 2 * c * dot + c * c * x2 * y2 + 1e-5
    left, right = (1 + 2 * c * dot + c * y2), (1 - c * x2)
    total = right.unsqueeze(-1) * y - left.unsqueeze(-1) * x.unsqueeze(-2)
    root = c**0.5
    return 2 / root * torch.atanh(root * safe_norm(total / denominator.unsqueeze(-1)))
