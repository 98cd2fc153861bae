"""SwiGLU feed-forward network on the hyperboloid (HELM)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...deprecation import renamed_arguments
from ...ops.fused import gated_ambient, gated_ambient_halves, to_ambient
from ...ops.inputs import upcast
from ...ops.products import linear
from .linear import LorentzLinear
from .routed_experts import affine


def swiglu(
    x: Tensor,
    c: Tensor | float,
    own: Tensor | float | None,
    weights: tuple[Tensor, Tensor, Tensor],
    biases: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    r"""Feed-forward network of curvature :math:`c'`, seen from a space of curvature ``c``.

    .. math:: z = \tfrac1s W_2\,\mathrm{ambient}_{c'}(\mathrm{silu}(W_1 sX + b_1) \odot
        (W_3 sX + b_3)) + \tfrac1s b_2 = W_2\,\mathrm{ambient}_c(\mathrm{silu}(W_1 sX + b_1) \odot
        (W_3 X + \tfrac1s b_3)) + \tfrac1s b_2,\qquad s = \sqrt{c / c'}

    Points change their curvature by a homothety, time included: nothing but the gate depends on it.

    Args:
        x: Ambient points ``(..., n, 1 + d)`` of curvature ``-c``, time first.
        c: Curvature of input and output.
        own: Curvature ``c'``; None: ``c``.
        weights: ``W_1``, ``W_2``, ``W_3``, of all points, or ``(..., o, 1 + d)``.
        biases: ``b_1``, ``b_2``, ``b_3``; see :func:`.routed_experts.affine`.

    Returns:
        Points ``(..., n, d)`` of curvature ``-c``, in float32 or better.
    """
    (w1, w2, w3), (b1, b2, b3) = weights, biases
    x = x.to(w1.dtype)
    gate = x
    if own is not None:
        scale = (c / own) ** 0.5
        gate, b2, b3 = (
            (x * scale).to(w1.dtype),
            (b2 / scale).to(b2.dtype),
            (b3 / scale).to(b3.dtype),
        )
    if own is None and w1.ndim == 2 and torch.is_grad_enabled():  # one product of both maps
        both = linear(x, (w1, w3), (b1.flatten(), b3.flatten()))
        hidden = gated_ambient_halves(both, c)
    else:
        hidden = gated_ambient(affine(gate, w1, b1), affine(x, w3, b3), c)
    return upcast(affine(hidden.to(w2.dtype), w2, b2))[0]


class LorentzSwiGLU(nn.Module):
    r"""Feed-forward network :math:`y = W_2\,\mathrm{ambient}(\mathrm{silu}(W_1 X) \odot W_3 X)`.

    Args:
        embed_dims: Space dimensions of input and output.
        hidden_dims: Space dimensions of the hidden points.
    """

    @renamed_arguments(dims='embed_dims')
    def __init__(self, embed_dims: int, hidden_dims: int):
        super().__init__()
        self.w1 = LorentzLinear(embed_dims, hidden_dims)
        self.w2 = LorentzLinear(hidden_dims, embed_dims)
        self.w3 = LorentzLinear(embed_dims, hidden_dims)

    def forward(self, x: Tensor, c: Tensor | float) -> Tensor:
        """Maps points ``(..., embed_dims)`` of curvature ``-c`` to points of the same shape."""
        return self.map(to_ambient(x, c), c)

    def map(self, ambient: Tensor, c: Tensor | float, own: Tensor | float | None = None) -> Tensor:
        """Maps ambient points ``(..., 1 + embed_dims)`` to space components; see :func:`swiglu`."""
        parts = self.w1, self.w2, self.w3
        weights, biases = zip(*((part.weight, part.bias) for part in parts))
        return swiglu(ambient, c, own, weights, biases)
