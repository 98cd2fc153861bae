"""Self-attention on the hyperboloid (HELM), as one scaled dot product attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import lorentz
from ..ops.stable import upcast
from .hope import HoPE
from .lorentz_linear import LorentzLinear


def attend(q: Tensor, k: Tensor, v: Tensor, c: Tensor | float, tau: Tensor, causal: bool) -> Tensor:
    r"""Lorentzian attention with the centroid of the values.

    .. math:: s_{ij} = \frac{2/c + 2\langle q_i, k_j\rangle_{\mathcal L}}{\tau},\qquad
        o_i = \frac{u_i}{\sqrt{-c\,\langle u_i, u_i\rangle_{\mathcal L}}},\quad
        u_i = \sum_j \mathrm{softmax}_j(s_{ij})\, v_j

    The softmax ignores shifts of a row: ``2/c`` is left out, and one key (causal) or the mean key
    is subtracted from all keys under autocast, which keeps the digits of close keys.

    Args:
        q: Queries ``(B, H, N, d)``.
        k: Keys ``(B, H, M, d)``.
        v: Values ``(B, H, M, e)``.
        c: Curvature.
        tau: Temperature.
        causal: Token ``i`` sees tokens ``j <= i`` alone.

    Returns:
        Centroids ``(B, H, N, e)``, in float32 or better.
    """
    q, k, v = upcast(q, k, v)
    q = torch.cat([-lorentz.time(q, c, keepdim=True), q], -1) * (2 / tau)
    k = torch.cat([lorentz.time(k, c, keepdim=True), k], -1)
    if torch.is_autocast_enabled(k.device.type):
        k = k - (k[..., :1, :] if causal else k.mean(-2, keepdim=True)).detach()
    v = torch.cat([lorentz.time(v, c, keepdim=True), v], -1)
    u = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=1.0)
    (u,) = upcast(u)
    time, space = u[..., :1], u[..., 1:]
    # a mean of points has -c<u,u> >= 1; rounding in half precision can take it below
    norm = c * (time.square() - space.square().sum(-1, keepdim=True))
    return space * norm.clamp_min(0.5).rsqrt()


class LorentzAttention(nn.Module):
    """Multi-head self-attention of points; heads are merged with their time parts.

    The released score bias is left out: the softmax does not see it.

    Args:
        dims: Space dimensions; ``dims + 1`` must be a multiple of ``num_heads``.
        num_heads: Number of heads, each of ``(dims + 1) / num_heads - 1`` space dimensions.
        causal: Token ``i`` sees tokens ``j <= i`` alone.
        rotary: Encode positions by :class:`HoPE`.

    Raises:
        ValueError: If the heads do not divide the points, or a rotary head has odd dimensions.
    """

    def __init__(self, dims: int, num_heads: int, causal: bool = True, rotary: bool = True):
        super().__init__()
        if num_heads < 1 or (dims + 1) % num_heads or dims + 1 < 2 * num_heads:
            raise ValueError(f'num_heads must be a divisor of dims + 1 = {dims + 1}: {num_heads}')
        self.num_heads, self.causal = num_heads, causal
        self.head_dims = (dims + 1) // num_heads - 1
        self.wq, self.wk, self.wv = (
            LorentzLinear(dims, num_heads * self.head_dims) for _ in range(3)
        )
        self.wo = nn.Linear(dims + 1, dims)
        nn.init.xavier_uniform_(self.wo.weight, gain=math.sqrt(2))
        nn.init.zeros_(self.wo.bias)
        self.tau = nn.Parameter(torch.tensor(math.sqrt(dims + 1)))
        self.rope = HoPE(self.head_dims) if rotary else nn.Identity()

    def heads(self, x: Tensor, c: Tensor | float) -> Tensor:
        """Returns the output points of the heads ``(B, N, H, head_dims)``."""
        shape = (self.num_heads, self.head_dims)
        q, k, v = (w(x, c).unflatten(-1, shape) for w in (self.wq, self.wk, self.wv))
        q, k, v = (t.transpose(1, 2) for t in (self.rope(q), self.rope(k), v))
        return attend(q, k, v, c, self.tau, self.causal).transpose(1, 2)

    def forward(self, x: Tensor, c: Tensor | float) -> Tensor:
        """Maps points ``(B, N, dims)`` of curvature ``-c`` to points of the same shape."""
        heads = self.heads(x, c)
        heads = torch.cat([lorentz.time(heads, c, keepdim=True), heads], -1)
        return self.wo(heads.flatten(-2).to(self.wo.weight.dtype))
