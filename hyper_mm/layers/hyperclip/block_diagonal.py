"""The block-diagonal Moebius map of HyperCLIP."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hyper_mm.ops.inputs import upcast
from hyper_mm.ops.stable import safe_norm

from ...checks import check_choice, check_count, check_range
from ..common.saved_options import SavedOptions

SPACES = ('poincare', 'euclidean')
BOUNDARY = 1e-3
"""How far from the boundary of the unit ball points are kept."""


class BlockDiagonalMobius(SavedOptions, nn.Module):
    r"""Moebius product of a block-diagonal matrix with tangent vectors at the origin.

    .. math:: w' = \log_0\big(\operatorname{project}(S \otimes_c \exp_0(w))\big)
        = S w \cdot \min\Big(1, \frac{r}{\lVert S w \rVert}\Big), \qquad
        r = \frac{\operatorname{artanh}(1 - 10^{-3})}{\sqrt c}, \qquad
        S = \operatorname{diag}(S_1, \dots, S_K)

    The product is the linear map by definition of :math:`\otimes_c`
    (:func:`hyper_mm.ops.poincare.mobius_matvec`). All that the ball adds is the largest length
    ``r``, so neither exponentials nor logarithms are computed. The blocks are initialized as
    identities and are never put into one dense matrix.

    Args:
        dim: Length d of a vector.
        block_size: Side n of a block, a divisor of ``dim``.
        shared: One block for all K places: ``n ** 2`` parameters instead of ``dim * n``.
        space: ``'poincare'``, or ``'euclidean'`` for the linear map without a largest length.
        curvature: ``c`` of the ball, positive.
        transposed: Apply the transpose of the blocks.

    Raises:
        ValueError: For a block size that does not divide ``dim``, an unknown space, or a curvature
            that is not positive; on loading blocks that were trained with other options.

    Source: HyperCLIP (CVPR 2025), whose official code evaluates the chain of maps. It also shortens
    ``w`` to ``artanh(1 - 1e-5) / sqrt(c)`` first, which matters only where ``S`` then shrinks such
    long vectors by more than a third; this does not.
    """

    def __init__(
        self,
        dim: int,
        block_size: int = 128,
        shared: bool = False,
        space: str = 'poincare',
        curvature: float = 0.01,
        transposed: bool = False,
    ):
        super().__init__()
        check_count(1, block_size=block_size)
        if dim % block_size:
            divisors = [n for n in range(1, dim + 1) if dim % n == 0]
            raise ValueError(
                f'block_size must divide the width {dim} (one of {divisors}), got {block_size}'
            )
        check_choice(SPACES, space=space)
        check_range('(0, inf)', curvature=curvature)
        self.dim = dim
        self.space = space
        self.curvature = float(curvature)
        self.transposed = transposed
        blocks = 1 if shared else dim // block_size
        self.weight = nn.Parameter(torch.eye(block_size).repeat(blocks, 1, 1))

    def saved_options(self) -> dict[str, object]:
        """Returns the options that the saved blocks depend on."""
        options = dict(space=self.space, transposed=self.transposed)
        if self.space == 'poincare':
            options['curvature'] = self.curvature
        return options

    @property
    def max_length(self) -> float:
        """Largest length ``r`` of a result."""
        if self.space == 'euclidean':
            return math.inf
        return math.atanh(1 - BOUNDARY) / math.sqrt(self.curvature)

    def forward(self, x: Tensor) -> Tensor:
        """Maps vectors ``(..., d)``, in float32 at least; the result has the dtype of ``x``."""
        y = self.linear(x)
        if self.space == 'poincare':
            length = safe_norm(y, keepdim=True)
            far = length > self.max_length
            y = y * torch.where(far, self.max_length / torch.where(far, length, 1), 1)
        return y.to(x.dtype)

    def linear(self, x: Tensor, transposed: bool | None = None) -> Tensor:
        """The product ``S w`` with vectors ``(..., d)``, in float32 at least.

        Args:
            x: The vectors.
            transposed: Take the transpose of the blocks; as at construction if None.
        """
        transposed = self.transposed if transposed is None else transposed
        with torch.autocast(x.device.type, enabled=False):
            x, weight = upcast(x, self.weight)
            x = x.unflatten(-1, (-1, weight.shape[-1]))
            weight = weight.expand(x.shape[-2], -1, -1)
            equation = '...kj,kji->...ki' if transposed else '...kj,kij->...ki'
            return torch.einsum(equation, x, weight).flatten(-2)

    @torch.no_grad()
    def clipped(self, x: Tensor) -> Tensor:
        """Fraction ``()`` of the vectors ``(..., d)`` whose result has the largest length."""
        return (safe_norm(self.linear(x)) > self.max_length).float().mean()

    def extra_repr(self) -> str:
        """Returns the options for ``print``."""
        blocks, n, _ = self.weight.shape
        return f'{self.dim}, {blocks} blocks of {n}, space={self.space!r}, c={self.curvature}'
