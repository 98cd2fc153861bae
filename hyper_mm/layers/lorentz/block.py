"""Transformer block of points of the hyperboloid (HELM)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from ...deprecation import renamed_arguments
from .cache import TokenCache
from .decoding import step, takes_few_calls
from .norm import LorentzResidual, LorentzRMSNorm
from .routed_experts import RoutedExperts


class LorentzBlock(nn.Module):
    r"""Pre-norm block :math:`x' = x \oplus A(\mathrm{RMS}(x)),\ y = x' \oplus F(\mathrm{RMS}(x'))`.

    Args:
        embed_dims: Space dimensions.
        attention: :class:`LorentzAttention` or :class:`HMLA`.
        ffn: :class:`LorentzSwiGLU` or :class:`MiCE`.
        scale: Scale of both residual connections.
        weight: Weight of both branches at initialization.
    """

    @renamed_arguments(dims='embed_dims')
    def __init__(
        self,
        embed_dims: int,
        attention: nn.Module,
        ffn: nn.Module,
        scale: float,
        weight: float = 1.0,
    ):
        super().__init__()
        self.norm1, self.norm2 = LorentzRMSNorm(embed_dims), LorentzRMSNorm(embed_dims)
        self.res1, self.res2 = LorentzResidual(scale, weight), LorentzResidual(scale, weight)
        self.attention, self.ffn = attention, ffn

    def forward(
        self,
        x: Tensor,
        c: Tensor | float,
        cache: TokenCache | None = None,
        mask: Tensor | None = None,
        counted: Tensor | None = None,
    ) -> Tensor:
        """Maps points to points.

        Args:
            x: See :meth:`LorentzAttention.forward`, as the next three.
            c: The same.
            cache: The same.
            mask: The same.
            counted: Which points count for the balance of experts, bool ``(B, N)``; None: all.

        Returns:
            Points ``(B, N, embed_dims)``.
        """
        if takes_few_calls(self, x, c, cache):
            return step(self, x, cast(float, c), cast(TokenCache, cache), mask)
        x = self.res1(x, self.attention(self.norm1(x), c, cache, mask), c)
        extra: tuple[Tensor | None, ...] = ()
        if isinstance(self.ffn, RoutedExperts):
            extra = (counted,)
        return self.res2(x, self.ffn(self.norm2(x), c, *extra), c)
