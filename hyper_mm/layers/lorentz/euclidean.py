"""Euclidean baselines of HELM's layers: LLaMA's block, DeepSeek's latent attention and experts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...deprecation import renamed_arguments
from ...ops.inputs import upcast
from .cache import TokenCache
from .hope import HoPE
from .routed_experts import RoutedExperts, affine


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Causal attention of heads ``(B, N, H, d)``, flattened: ``(B, N, H e)``."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    q, k = q.to(v.dtype), k.to(v.dtype)
    new, seen = q.shape[-2], k.shape[-2]
    causal = mask is None and new == seen
    if not causal:
        order = torch.ones(new, seen, dtype=torch.bool, device=q.device).tril(seen - new)
        mask = order if mask is None else order & mask
    width, scale = v.shape[-1], q.shape[-1] ** -0.5
    if q.shape[-1] > width:  # fused kernels take one width alone
        v = F.pad(v, (0, q.shape[-1] - width))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)
    return out[..., :width].transpose(1, 2).flatten(-2)


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32 or better.

    Args:
        embed_dims: Width.
        eps: Added to the mean square.
    """

    @renamed_arguments(dims='embed_dims')
    def __init__(self, embed_dims: int, eps: float = 1e-8):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(embed_dims))

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes vectors ``(..., embed_dims)``; the result is in the dtype of the weight."""
        (x,) = upcast(x)
        x = x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return (x * self.weight).to(self.weight.dtype)


class RotaryAttention(nn.Module):
    """Causal multi-head attention with rotary positions, the baseline of :class:`LorentzAttention`.

    Args:
        embed_dims: Width.
        num_heads: Number of heads; ``embed_dims / num_heads`` must be even.

    Raises:
        ValueError: If the heads do not divide the width, or are odd.
    """

    @renamed_arguments(dims='embed_dims')
    def __init__(self, embed_dims: int, num_heads: int):
        super().__init__()
        if num_heads < 1 or embed_dims % num_heads:
            raise ValueError(
                f'num_heads must be a divisor of embed_dims = {embed_dims}, got {num_heads}'
            )
        self.num_heads = num_heads
        self.rope = HoPE(embed_dims // num_heads)
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(embed_dims, embed_dims) for _ in range(4))

    def forward(
        self, x: Tensor, cache: TokenCache | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Maps ``(B, N, embed_dims)`` to the same shape; see :meth:`LorentzAttention.forward`."""
        start = cache.length if cache is not None else 0
        q, k, v = (w(x).unflatten(-1, (self.num_heads, -1)) for w in (self.wq, self.wk, self.wv))
        q, k = self.rope(q, start).to(v.dtype), self.rope(k, start).to(v.dtype)
        if cache is not None:
            k, v = cache.append(torch.cat([k, v], -1)).chunk(2, -1)
        return self.wo(_attend(q, k, v, mask))


class MLA(nn.Module):
    """Multi-head latent attention (DeepSeek), the baseline of :class:`HMLA`; arguments as there."""

    @renamed_arguments(dims='embed_dims')
    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        latent_dims: int,
        nope_dims: int,
        rope_dims: int,
        v_dims: int,
    ):
        super().__init__()
        if min(num_heads, latent_dims, nope_dims, v_dims) < 1 or v_dims > nope_dims + rope_dims:
            raise ValueError(
                'num_heads, latent_dims, nope_dims and v_dims must be positive, and v_dims at most '
                f'nope_dims + rope_dims, got {num_heads}, {latent_dims}, {nope_dims}, {v_dims}'
            )
        self.num_heads, self.latent_dims = num_heads, latent_dims
        self.nope_dims, self.rope_dims, self.v_dims = nope_dims, rope_dims, v_dims
        self.wq = nn.Linear(embed_dims, num_heads * (nope_dims + rope_dims))
        self.wkv_a = nn.Linear(embed_dims, latent_dims + rope_dims)
        self.kv_norm = RMSNorm(latent_dims)
        self.wkv_b = nn.Linear(latent_dims, num_heads * (nope_dims + v_dims))
        self.wo = nn.Linear(num_heads * v_dims, embed_dims)
        self.rope = HoPE(rope_dims)

    def forward(
        self, x: Tensor, cache: TokenCache | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Maps ``(B, N, embed_dims)`` to the same shape; see :meth:`LorentzAttention.forward`."""
        start = cache.length if cache is not None else 0
        q = self.wq(x).unflatten(-1, (self.num_heads, -1))
        q, q_rope = q.split([self.nope_dims, self.rope_dims], -1)
        q = torch.cat([q, self.rope(q_rope, start)], -1)
        latent, k_rope = self.wkv_a(x).split([self.latent_dims, self.rope_dims], -1)
        k_rope = self.rope(k_rope.unsqueeze(2), start).squeeze(2)
        latent = self.kv_norm(latent)
        rows = torch.cat([latent, k_rope.to(latent.dtype)], -1)
        rows = rows if cache is None else cache.append(rows)
        latent, k_rope = rows.split([self.latent_dims, self.rope_dims], -1)
        k, v = (
            self.wkv_b(latent)
            .unflatten(-1, (self.num_heads, -1))
            .split([self.nope_dims, self.v_dims], -1)
        )
        k = torch.cat([k, k_rope.unsqueeze(2).expand(-1, -1, self.num_heads, -1)], -1)
        return self.wo(_attend(q, k, v, mask))


class SwiGLU(nn.Module):
    """Feed-forward network ``w2(silu(w1 x) * w3 x)``, the baseline of :class:`LorentzSwiGLU`."""

    @renamed_arguments(dims='embed_dims')
    def __init__(self, embed_dims: int, hidden_dims: int):
        super().__init__()
        self.w1, self.w3 = nn.Linear(embed_dims, hidden_dims), nn.Linear(embed_dims, hidden_dims)
        self.w2 = nn.Linear(hidden_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(..., embed_dims)`` to the same shape."""
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class MoE(RoutedExperts):
    """Mixture of SwiGLU experts, the baseline of :class:`MiCE`; arguments as there."""

    w1: Tensor
    w2: Tensor
    w3: Tensor
    b1: Tensor
    b2: Tensor
    b3: Tensor

    @renamed_arguments(dims='embed_dims', renormalise='renormalize')
    def __init__(
        self,
        embed_dims: int,
        hidden_dims: int,
        num_experts: int = 4,
        top_k: int = 2,
        num_shared: int = 1,
        score: str = 'softmax',
        renormalize: bool = True,
        balance_weight: float = 1e-4,
    ):
        super().__init__(embed_dims, num_experts, top_k, score, renormalize, balance_weight)
        shapes = {
            '1': (hidden_dims, embed_dims),
            '3': (hidden_dims, embed_dims),
            '2': (embed_dims, hidden_dims),
        }
        for name, shape in shapes.items():
            weight = nn.Parameter(0.02 * torch.randn(num_experts, *shape))
            self.register_parameter(f'w{name}', weight)
            self.register_parameter(f'b{name}', nn.Parameter(torch.zeros(num_experts, 1, shape[0])))
        self.shared = nn.ModuleList(SwiGLU(embed_dims, hidden_dims) for _ in range(num_shared))

    def forward(self, x: Tensor, counted: Tensor | None = None) -> Tensor:
        """Maps ``(..., embed_dims)`` to the same shape; see :meth:`MiCE.forward`."""
        shape, x = x.shape, x.flatten(0, -2)
        routing = self.route(x, counted)
        parameters = (self.w1, self.w3, self.w2, self.b1, self.b3, self.b2)
        routed = self.dispatch(x, routing.indices, routing.counts, _expert, parameters)
        out = (routing.gates.unsqueeze(-1) * routed).sum(1)
        return sum((ffn(x) for ffn in self.shared), out).reshape(shape)


def _expert(x: Tensor, w1, w3, w2, b1, b3, b2) -> Tensor:
    """SwiGLU network with weights ``(..., o, d)``."""
    return affine(F.silu(affine(x, w1, b1)) * affine(x, w3, b3), w2, b2)


class EuclideanBlock(nn.Module):
    """Pre-norm block, the baseline of :class:`LorentzBlock`."""

    @renamed_arguments(dims='embed_dims')
    def __init__(self, embed_dims: int, attention: nn.Module, ffn: nn.Module):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(embed_dims), RMSNorm(embed_dims)
        self.attention, self.ffn = attention, ffn

    def forward(
        self,
        x: Tensor,
        cache: TokenCache | None = None,
        mask: Tensor | None = None,
        counted: Tensor | None = None,
    ) -> Tensor:
        """Maps ``(B, N, embed_dims)`` to the same shape, in float32 or better."""
        (x,) = upcast(x)  # in half precision branches would vanish beside a large sum
        x = x + self.attention(self.norm1(x), cache, mask)
        extra: tuple[Tensor | None, ...] = ()
        if isinstance(self.ffn, RoutedExperts):
            extra = (counted,)
        return x + self.ffn(self.norm2(x), *extra)
