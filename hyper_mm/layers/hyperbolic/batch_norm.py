"""Batch normalization of points of the hyperboloid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import check_count, check_positive, check_range
from ...ops import lorentz
from ..common.curvature import Curvature, LogParameter, curvature_options


class LorentzBatchNorm(nn.Module):
    r"""Moves the centroid of a batch to a learned point and scales distances from it.

    .. math:: y = \exp_\beta\!\Big(P_{0 \to \beta}\Big(\frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}\,
        P_{\mu \to 0}\big(\log_\mu(x)\big)\Big)\Big),\qquad
        \sigma^2 = \tfrac1n \sum_i d(x_i, \mu)^2

    with the centroid ``mu``. Running statistics move along the geodesic to those of a batch.

    Args:
        dim: Dimension of the points.
        curvature: The module of the space that the points live in, shared; or its initial ``c``, or
            arguments of :class:`hyper_mm.layers.Curvature`.
        eps: Added to the variance.
        momentum: Part of the way that the running statistics go, in (0, 1].

    Raises:
        ValueError: For numbers outside their range; in training, for a batch of one point.

    Source: Bdeir et al., Fully Hyperbolic Convolutional Neural Networks (ICLR 2024).
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        dim: int,
        curvature: Curvature | float | Mapping[str, Any] | None = None,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ):
        super().__init__()
        check_count(1, dim=dim)
        check_positive(eps=eps)
        check_range('(0, 1]', momentum=momentum)
        if not isinstance(curvature, Curvature):
            curvature = Curvature(**curvature_options(curvature, learnable=False))
        self.curvature = curvature
        self.dim, self.eps, self.momentum = dim, eps, momentum
        self.gamma = LogParameter(1.0, name='gamma')
        self.beta = nn.Parameter(torch.zeros(dim))  # a tangent vector at the origin
        self.register_buffer('running_mean', torch.zeros(dim))
        self.register_buffer('running_var', torch.ones(()))
        self.register_buffer('num_batches_tracked', torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes points ``(..., dim)`` over all dimensions but the last."""
        if x.shape[-1] != self.dim:
            raise ValueError(f'points must have {self.dim} space components, got {x.shape[-1]}')
        c = self.curvature()
        flat = x.reshape(-1, self.dim)
        if self.training:
            if len(flat) < 2:
                raise ValueError(f'training needs 2 points or more, got {len(flat)}')
            mean = lorentz.centroid(flat, None, c)
            logs = self._logs(mean, flat, c)
            var = logs.square().sum(-1).mean()
            self._track(mean.detach(), var.detach(), c.detach())
        else:
            mean, var = self.running_mean, self.running_var
            logs = self._logs(mean, flat, c)
        logs = logs * (self.gamma() * (var + self.eps).rsqrt())
        beta = lorentz.expmap0(self.beta, c)
        y = lorentz.expmap(beta, lorentz.transport0(beta, logs, c), c)
        return y.view(*x.shape[:-1], self.dim)

    @staticmethod
    def _logs(mean: Tensor, x: Tensor, c: Tensor) -> Tensor:
        return lorentz.transport_to0(mean, lorentz.logmap(mean, x, c), c)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, c: Tensor) -> None:
        moved = lorentz.geodesic(self.running_mean, mean, self.momentum, c)
        self.running_mean.copy_(moved)
        self.running_var.lerp_(var.to(self.running_var), self.momentum)
        self.num_batches_tracked += 1

    def extra_repr(self) -> str:
        return f'{self.dim}, eps={self.eps}, momentum={self.momentum}'
