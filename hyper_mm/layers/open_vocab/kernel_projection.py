"""A projection by kernel ridge regression, as a module."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import check_range


def gaussian_kernel(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    r"""Gaussian kernel of unit vectors, :math:`e^{-\gamma |x - y|^2} = e^{2 \gamma (x'y - 1)}`.

    Args:
        x: Unit vectors ``(..., E)``.
        y: Unit vectors ``(N, E)``.
        gamma: Inverse squared width.

    Returns:
        ``(..., N)``, in (0, 1].
    """
    return (2 * gamma * (x @ y.T - 1)).exp()


class KernelProjection(nn.Module):
    r"""Maps vectors to another space by their similarity to N anchors.

    .. math:: y = \sum_n v_n\, e^{-\gamma |\hat x - a_n|^2},\qquad
        V = (K + r 1)^{-1} Y,\quad K_{mn} = e^{-\gamma |a_m - a_n|^2}

    V is the solution of kernel ridge regression of the targets Y on the anchors; :meth:`fit` sets
    it. It is attention without a softmax over the anchors.

    Args:
        in_dim: Width E of the inputs.
        out_dim: Width F of the outputs.
        anchors: Their number N.
        gamma: Inverse squared width of the kernel, positive.

    Raises:
        ValueError: If ``gamma`` is not positive.
    """

    anchors: Tensor

    def __init__(self, in_dim: int, out_dim: int, anchors: int, gamma: float) -> None:
        super().__init__()
        check_range('(0, inf)', gamma=gamma)
        self.gamma = gamma
        self.register_buffer('anchors', F.normalize(torch.randn(anchors, in_dim), dim=-1))
        self.values = nn.Parameter(torch.randn(anchors, out_dim) / anchors**0.5)

    @torch.no_grad()
    def fit(self, inputs: Tensor, targets: Tensor, ridge: float) -> KernelProjection:
        """Sets anchors and values so that inputs are mapped to targets.

        Args:
            inputs: ``(N, E)``, N the number of anchors; their direction counts.
            targets: ``(N, F)``.
            ridge: Weight r of the squared norm of the function, positive.

        Returns:
            The module.

        Raises:
            ValueError: If ``ridge`` is not positive, or shapes do not fit.
        """
        check_range('(0, inf)', ridge=ridge)
        wanted = (self.anchors.shape, self.values.shape)
        if (inputs.shape, targets.shape) != wanted:
            raise ValueError(
                f'inputs and targets must have the shapes {tuple(map(tuple, wanted))}, got '
                f'{tuple(inputs.shape)} and {tuple(targets.shape)}'
            )
        x = F.normalize(inputs.double(), dim=-1)
        kernel = gaussian_kernel(x, x, self.gamma)
        kernel.diagonal().add_(ridge)
        self.anchors.copy_(x)
        self.values.copy_(torch.linalg.solve(kernel, targets.double()))
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Maps vectors ``(..., E)`` to ``(..., F)``; their direction counts."""
        return gaussian_kernel(F.normalize(x, dim=-1), self.anchors, self.gamma) @ self.values
