"""Classification by ideal prototypes: fixed points of the boundary, as far apart as they can be."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ...checks import check_count, check_not_negative, check_positive
from ...ops import busemann, lorentz
from ...ops.inputs import Curvature, sqrt
from ...ops.stable import unit
from ..common.curvature import LogParameter
from .classifier import Classifier


def ideal_prototypes(num: int, dim: int, seed: int = 0, steps: int = 500) -> Tensor:
    """Directions that are far apart from each other, the same in every run.

    Up to ``dim + 1`` directions are the corners of a regular simplex, which is optimal; two
    dimensions have the corners of a regular polygon; others minimize, by gradient descent, the
    largest cosine of each to another (Mettes et al., Hyperspherical Prototype Networks, NeurIPS
    2019).

    Args:
        num: Number of directions.
        dim: Dimension, at least 2 for more than two directions.
        seed: Seed of the descent.
        steps: Its steps.

    Returns:
        Unit vectors ``(num, dim)``.

    Raises:
        ValueError: For counts below 1, or more than two directions of a line.
    """
    check_count(1, num=num, dim=dim)
    if dim == 1 and num > 2:
        raise ValueError(f'dim must be at least 2 for {num} directions, got 1')
    if dim == 2 and num > 3:
        angle = torch.arange(num) * (2 * math.pi / num)
        return torch.stack([angle.cos(), angle.sin()], 1)
    if num <= dim + 1:
        corners = torch.eye(num, dtype=torch.float64)
        corners = corners - corners.mean(0)
        if num == 1:
            corners = torch.ones(1, 1, dtype=torch.float64)
        # a simplex of num corners spans num - 1 dimensions
        basis = torch.linalg.svd(corners).Vh[: max(num - 1, 1)]
        return F.pad(unit(corners @ basis.T), (0, dim - len(basis))).float()
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        x = unit(torch.randn(num, dim, generator=generator)).requires_grad_()
        for step in range(steps):
            cosine = unit(x) @ unit(x).T - 2 * torch.eye(num)
            (grad,) = torch.autograd.grad(cosine.max(1).values.sum(), x)
            with torch.no_grad():
                x.copy_(unit(x - 0.1 * (1 - step / steps) * unit(grad)))
    return x.detach()


class BusemannHead(Classifier):
    r"""Logits from the Busemann functions of fixed ideal prototypes.

    .. math:: \ell_k(x) = -\frac{B_{p_k}(x)}{\tau},\qquad
        L(x, y) = B_{p_y}(x) - \phi\, \log(1 - c \lVert x \rVert_{\text{ball}}^2)

    The penalty in :meth:`loss` keeps points from running to the boundary, toward which the Busemann
    function falls without bound: the further out, the more certain.

    Args:
        *args: Arguments of :class:`hyper_mm.layers.hyperbolic.classifier.Classifier`.
        prototypes: Ideal points ``(num_classes, dim)``, of which the directions count;
            :func:`ideal_prototypes` if None. They are saved with the weights.
        penalty: ``phi``; the paper takes 0.75 for few and 0.1 ``dim`` for many dimensions.
        tau: Initial temperature of the logits, trained with :meth:`forward`.
        **kwargs: As above; ``init='from_linear'`` and ``logit_scale`` are refused.

    Raises:
        ValueError: If prototypes do not fit, or for numbers outside their range.

    Source: Ghadimi Atigh et al., Hyperbolic Busemann Learning with Ideal Prototypes (NeurIPS 2021).
    """

    def __init__(
        self,
        *args,
        prototypes: Tensor | None = None,
        penalty: float = 0.75,
        tau: float = 1.0,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        check_not_negative(penalty=penalty)
        check_positive(tau=tau)
        if self.logit_scale is not None:
            raise ValueError('logit_scale is 1 / tau here: give tau')
        if self.init == 'from_linear':
            raise ValueError("init='from_linear' needs weights, and ideal prototypes are fixed")
        if prototypes is None:
            prototypes = ideal_prototypes(self.num_classes, self.dim)
        prototypes = torch.as_tensor(prototypes, dtype=torch.float32)
        if tuple(prototypes.shape) != (self.num_classes, self.dim):
            raise ValueError(
                f'prototypes must be of shape {(self.num_classes, self.dim)}, got '
                f'{tuple(prototypes.shape)}'
            )
        if (prototypes == 0).all(1).any():
            raise ValueError('prototypes must be no zero vectors')
        self.penalty = penalty
        self.prototypes: Tensor
        self.register_buffer('prototypes', unit(prototypes))
        self.tau = LogParameter(tau, (1e-4, 1e4), name='tau')

    def _values(self, x: Tensor) -> tuple[Tensor, Tensor, Curvature]:
        """Points ``(n, d)``, their Busemann functions ``(n, K)``, and the curvature."""
        c = self.c()
        points = lorentz.expmap0(self.tangent(x, c), c).reshape(-1, self.dim)
        return points, busemann.lorentz_pairwise_busemann(points, self.prototypes, c), c

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits ``(..., num_classes)`` of features ``(..., in_features)``."""
        _, values, _ = self._values(x)
        return (-values / self.tau()).view(*x.shape[:-1], self.num_classes)

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """Penalized Busemann loss, the mean over features.

        Args:
            x: Features ``(n, in_features)``.
            labels: Classes ``(n,)``.

        Returns:
            ``()``.
        """
        points, values, c = self._values(x)
        root = sqrt(c)
        # 1 - c |ball|^2 = 2 / (1 + sqrt(c) x0)
        margin = torch.log((1 + root * lorentz.time(points, c)) / 2)
        own = values.gather(1, labels.view(-1, 1)).squeeze(1)
        return (root * own + self.penalty * margin).mean()
