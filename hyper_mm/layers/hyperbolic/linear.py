"""Linear layer of the Poincare ball."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import check_count
from ...ops import hyperplanes, lorentz, poincare
from ...ops.stable import safe_norm
from ..common.curvature import Curvature, curvature_options
from .classifier import check_width, random_weight


class PoincareLinear(nn.Module):
    r"""Fully connected layer of points of the ball: coordinates are distances to hyperplanes.

    .. math:: y = \frac{w}{1 + \sqrt{1 + c \lVert w \rVert^2}},\qquad
        w_k = \frac{1}{\sqrt c} \sinh\!\big(\sqrt c\, v_k(x)\big)

    with the logits ``v`` of the unidirectional :class:`PoincareMLR`; ``w`` are the space components
    of the result on the hyperboloid.

    Args:
        in_features: Dimension of the points.
        out_features: Dimension of the result.
        curvature: The module of the space that the points live in, shared; or its initial ``c``, or
            arguments of :class:`hyper_mm.layers.Curvature`.
        bias: Whether hyperplanes may be away from the origin.

    Source: Shimizu et al., Hyperbolic Neural Networks++ (ICLR 2021).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        curvature: Curvature | float | Mapping[str, Any] | None = None,
        bias: bool = True,
    ):
        super().__init__()
        check_count(1, in_features=in_features, out_features=out_features)
        if not isinstance(curvature, Curvature):
            curvature = Curvature(**curvature_options(curvature, learnable=False))
        self.curvature = curvature
        # lengths are doubled twice, from weights and from points to distances: as nn.Linear
        self.weight = random_weight(out_features, in_features)
        with torch.no_grad():
            self.weight.div_(2)
        self.offset = nn.Parameter(torch.zeros(out_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps points of the ball ``(..., in_features)`` to points ``(..., out_features)``."""
        check_width(x, self.weight.shape[1], 'points')
        c = self.curvature()
        flat = x.reshape(-1, x.shape[-1])
        offset = self.weight.new_zeros(len(self.weight)) if self.offset is None else self.offset
        v = hyperplanes.poincare_pairwise_hyperplane_dist(flat, self.weight, offset, c)
        v = v * (2 * safe_norm(self.weight)).to(v.dtype)
        root = c.sqrt().to(v.dtype)
        y = lorentz.to_poincare(torch.sinh(root * v) / root, c)
        return y.view(*x.shape[:-1], len(self.weight))

    def from_tangent(self, v: Tensor) -> Tensor:
        """Points of the ball of tangent vectors at the origin, in the layer's curvature."""
        return poincare.expmap0(v, self.curvature())

    def extra_repr(self) -> str:
        out, inside = self.weight.shape
        return f'{inside}, {out}, bias={self.offset is not None}'
