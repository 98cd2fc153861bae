"""SwiGLU feed-forward network on the hyperboloid (HELM)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .lorentz_linear import LorentzLinear, lift


class LorentzSwiGLU(nn.Module):
    r"""Feed-forward network :math:`y = W_2\,\mathrm{lift}(\mathrm{silu}(W_1 X) \odot W_3 X)`.

    Args:
        dims: Space dimensions of input and output.
        hidden_dims: Space dimensions of the hidden points.
    """

    def __init__(self, dims: int, hidden_dims: int):
        super().__init__()
        self.w1 = LorentzLinear(dims, hidden_dims)
        self.w2 = LorentzLinear(hidden_dims, dims)
        self.w3 = LorentzLinear(dims, hidden_dims)

    def forward(self, x: Tensor, c: Tensor | float) -> Tensor:
        """Maps points ``(..., dims)`` of curvature ``-c`` to points of the same shape."""
        x = lift(x, c)
        return self.w2(F.silu(self.w1.map(x)) * self.w3.map(x), c)
