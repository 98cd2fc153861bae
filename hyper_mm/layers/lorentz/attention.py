"""Self-attention on the hyperboloid (HELM), as one scaled dot product attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...compat import is_exporting
from ...deprecation import renamed_arguments
from ...ops import fused, lorentz
from ...ops.fused import normalize, to_ambient
from ...ops.products import linear
from ...ops.unfused import RotationTable
from ..common.single_numbers import SingleNumbers
from .cache import TokenCache
from .hope import HoPE
from .linear import LorentzLinear
from .norm import LorentzRMSNorm


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    c: Tensor | float,
    tau: Tensor,
    causal: bool,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Lorentzian attention with the centroid of the values.

    .. math:: s_{ij} = \frac{2/c + 2\langle q_i, k_j\rangle_{\mathcal L}}{\tau},\qquad
        o_i = \frac{u_i}{\sqrt{-c\,\langle u_i, u_i\rangle_{\mathcal L}}},\quad
        u_i = \sum_j \mathrm{softmax}_j(s_{ij})\, v_j

    The softmax ignores shifts of a row: ``2/c`` is left out, and one vector is subtracted from all
    keys, time included: the mean key, or the first one where later tokens must not be seen. The
    same is done with the values, whose vector is added to the sum. That changes nothing but the
    rounding, which in bfloat16 would erase the scores of close keys and the Lorentzian norm of
    the sum.

    Args:
        q: Queries, space components ``(B, H, N, d)``.
        k: Keys, space components ``(B, H, M, d)``; causal queries are those of the last ``N``
            tokens.
        v: Values, space components ``(B, H, M, e)``.
        c: Curvature.
        tau: Temperature ``()`` or ``(1,)``.
        causal: Token ``i`` sees tokens ``j <= i`` alone.
        mask: Which keys a query may see, bool ``(B, 1, N, M)``; None: all. Each query must see a
            key.

    Returns:
        Centroids, space components ``(B, H, N, e)``, in float32 or better.
    """
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return attend_heads(q, k, v, c, tau, causal, mask)[..., 1:].transpose(1, 2)


def attend_heads(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    c: Tensor | float,
    tau: Tensor,
    causal: bool,
    mask: Tensor | None = None,
    table: RotationTable | None = None,
) -> Tensor:
    """Attention as in :func:`attend`, of heads laid out as linear maps return them.

    Args:
        q: Queries, space components ``(B, N, H, d)``.
        k: Keys, space components ``(B, M, H, d)``.
        v: Values, space components ``(B, M, H, e)``.
        c: Curvature.
        tau: Temperature ``()`` or ``(1,)``.
        causal: Token ``i`` sees tokens ``j <= i`` alone; the queries are the last ``N`` tokens.
        mask: Which keys a query may see, bool ``(B, 1, N, M)``; None: all.
        table: Rotations of :meth:`HoPE.table`, ``(N, 1, p)``, of queries and keys; None: they are
            rotated already, or not at all.

    Returns:
        Ambient points ``(B, N, H, 1 + e)``, time first, in float32 or better.
    """
    size, width = v.shape[-1] + 1, max(q.shape[-1], v.shape[-1]) + 1
    if q.device.type != 'cpu' or (torch.is_grad_enabled() and not is_exporting()):
        # fused kernels of accelerators need rows of whole 16 bytes; the backward pass on processors
        # is faster with them
        width = -(-width // 8) * 8
    # q, k and v are laid out (B, N, H, width), zeros behind: fused kernels take one width alone,
    # and without them all scores (B, H, N, M) are kept
    center = 'first' if causal else 'mean'
    q, _ = fused.heads(q, c, table, factor=2 / tau, width=width)
    k, _ = fused.heads(k, c, table, center=center, width=width)
    v, middle = fused.heads(v, c, center=center, width=width)
    new, seen = q.shape[1], k.shape[1]
    if causal and (mask is not None or new < seen):
        # the kernel's own causal mask has token 0 as the first query; here it is seen - new
        order = torch.ones(new, seen, dtype=torch.bool, device=q.device).tril(seen - new)
        mask = order if mask is None else order & mask
    causal = causal and mask is None
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (B, H, N, width)
    u = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=1.0)
    assert middle is not None
    # weights of a row sum to 1: the vector that was subtracted from each value is missing once
    return normalize(u.transpose(1, 2)[..., :size], middle[..., :size], c)


def attend_last(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    c: Tensor | float,
    tau: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """Attention of the last token to the ambient points that a cache keeps.

    Nothing is subtracted from them: that would be a pass over the whole cache for one query.

    Args:
        q: Queries, space components ``(B, 1, H, d)``.
        k: Keys, ambient points ``(B, M, H, 1 + d)``, time first.
        v: Values, ambient points ``(B, M, H, 1 + e)``, time first.
        c: Curvature.
        tau: Temperature ``()`` or ``(1,)``.
        mask: Which keys are seen, bool ``(B, 1, 1, M)``; None: all.

    Returns:
        Ambient points ``(B, 1, H, 1 + e)``.
    """
    q = to_ambient(q, c) * (2 / tau)
    q[..., :1].neg_()  # [-q0; q] . [k0; k] = <q, k>_L
    q, k, v = (t.transpose(1, 2) for t in (q.to(k.dtype), k, v))
    with torch.autocast(q.device.type, enabled=False):
        u = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
    return normalize(u.transpose(1, 2), None, c)


class HeadMerge(nn.Linear):
    """Linear map of all heads of a token, time components included, to one point.

    The weight ``(embed_dims, num_heads * (head_dims + 1))`` has a column for the time of each head.

    Args:
        num_heads: Number of heads ``H``.
        head_dims: Space dimensions of a head.
        embed_dims: Space dimensions of the result.
    """

    @renamed_arguments(dims='embed_dims')
    def __init__(self, num_heads: int, head_dims: int, embed_dims: int):
        super().__init__(num_heads * (head_dims + 1), embed_dims)
        nn.init.xavier_uniform_(self.weight, gain=math.sqrt(2))
        nn.init.zeros_(self.bias)

    def forward(  # type: ignore[override]  # points have a curvature
        self, points: Tensor, c: Tensor | float
    ) -> Tensor:
        """Merges heads given by their space components.

        Args:
            points: Space components ``(..., H, head_dims)``.
            c: Curvature.

        Returns:
            Space components ``(..., embed_dims)``, in the dtype of the weight.
        """
        return self.map(to_ambient(points, c))

    def map(self, points: Tensor) -> Tensor:
        """Merges heads given as ambient points ``(..., H, 1 + head_dims)``; see :meth:`forward`."""
        return linear(points.flatten(-2).to(self.weight.dtype), (self.weight,), (self.bias,))


class LorentzAttention(SingleNumbers, nn.Module):
    """Multi-head self-attention of points; heads are merged with their time parts.

    The score bias of the official code is left out: the softmax does not see it.

    Args:
        embed_dims: Space dimensions; ``embed_dims + 1`` must be a multiple of ``num_heads``.
        num_heads: Number of heads, each of ``(embed_dims + 1) / num_heads - 1`` space dimensions.
        causal: Token ``i`` sees tokens ``j <= i`` alone.
        rotary: Encode positions by :class:`HoPE`.

    Raises:
        ValueError: If the heads do not divide the points, or a rotary head has odd dimensions.
    """

    numbers = ('tau',)

    @renamed_arguments(dims='embed_dims')
    def __init__(self, embed_dims: int, num_heads: int, causal: bool = True, rotary: bool = True):
        super().__init__()
        if num_heads < 1 or (embed_dims + 1) % num_heads or embed_dims + 1 < 2 * num_heads:
            raise ValueError(
                f'num_heads must be a divisor of embed_dims + 1 = {embed_dims + 1}: {num_heads}'
            )
        self.num_heads, self.causal = num_heads, causal
        self.head_dims = (embed_dims + 1) // num_heads - 1
        self.wq, self.wk, self.wv = (
            LorentzLinear(embed_dims, num_heads * self.head_dims) for _ in range(3)
        )
        self.wo = HeadMerge(num_heads, self.head_dims, embed_dims)
        self.tau = nn.Parameter(torch.tensor([math.sqrt(embed_dims + 1)]))
        self.rope = HoPE(self.head_dims) if rotary else None

    def heads(
        self,
        x: Tensor,
        c: Tensor | float,
        cache: TokenCache | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Computes the heads before they are merged.

        Args:
            x: See :meth:`forward`.
            c: Curvature.
            cache: See :meth:`forward`.
            mask: See :meth:`forward`.

        Returns:
            Space components ``(B, N, H, head_dims)``.
        """
        return self._ambient(x, c, cache, mask)[..., 1:]

    def _ambient(self, x, c, cache=None, mask=None) -> Tensor:
        """Heads as ambient points ``(B, N, H, 1 + head_dims)``."""
        shape, table = (self.num_heads, self.head_dims), None
        start = cache.length if cache is not None else 0
        x = to_ambient(x, c)
        q, k, v = (w.map(x).unflatten(-1, shape) for w in (self.wq, self.wk, self.wv))
        if self.rope is not None and cache is None:
            table = self.rope.table(x)
        elif self.rope is not None:
            q, k = self.rope(torch.cat([q, k], 2), start).chunk(2, 2)
        if cache is not None:
            # rows (B, N, 2, H, 1 + head_dims): rotated keys and values as ambient points
            k, v = cache.append(to_ambient(torch.stack([k, v], 2), c)).unbind(2)
            if q.shape[1] == 1:  # a few times as fast: the cache is not laid out again
                return attend_last(q, k, v, c, self.tau, mask)
            k, v = k[..., 1:], v[..., 1:]
        return attend_heads(q, k, v, c, self.tau, self.causal, mask, table)

    def forward(
        self,
        x: Tensor,
        c: Tensor | float,
        cache: TokenCache | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Maps points to points.

        Args:
            x: Points ``(B, N, embed_dims)``: all of a sequence, or with a cache its next tokens.
            c: Curvature.
            cache: Keys and values of the tokens before, ambient points ``(2, H, 1 + head_dims)`` a
                token; those of ``x`` are added.
            mask: Which of all ``M`` keys, those of the cache first, a query may see, bool
                ``(B, 1, N, M)``; None: all. Each query must see a key.

        Returns:
            Points ``(B, N, embed_dims)``.
        """
        return self.wo.map(self._ambient(x, c, cache, mask))


class HMLA(SingleNumbers, nn.Module):
    r"""Hyperbolic multi-head latent attention: keys and values are expanded from short latents.

    .. math:: (l, k^p) = W^{kv}_a X,\quad (k^n, v) = W^{kv}_b\, \mathrm{ambient}(\mathrm{RMS}(l)),
        \quad k = [k^n;\, R k^p],\quad q = [q^n;\, R q^p] = W_q X

    with :math:`k^p` shared by the heads. Joining space components and taking the time of the result
    is the paper's Lorentzian concatenation. A cache keeps the normalized latent and :math:`R k^p`:
    ``latent_dims + rope_dims`` numbers a token. All dimensions are space dimensions (the official
    code counts the time of ``rope`` and ``v``).

    Args:
        embed_dims: Space dimensions of the points.
        num_heads: Number of heads.
        latent_dims: Dimensions of the latent of keys and values.
        nope_dims: Dimensions of a query or key that are not rotated.
        rope_dims: Dimensions that are, even.
        v_dims: Dimensions of a value.
        q_latent_dims: Dimensions of a latent of the queries; 0: they are linear in the points. (The
            official code raises for any other value: its norm has a wrong size.)
        causal: Token ``i`` sees tokens ``j <= i`` alone.

    Raises:
        ValueError: If a dimension is not positive, or ``rope_dims`` is odd.
    """

    numbers = ('tau',)

    @renamed_arguments(dims='embed_dims')
    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        latent_dims: int,
        nope_dims: int,
        rope_dims: int,
        v_dims: int,
        q_latent_dims: int = 0,
        causal: bool = True,
    ):
        super().__init__()
        sizes = dict(
            num_heads=num_heads, latent_dims=latent_dims, nope_dims=nope_dims, rope_dims=rope_dims,
            v_dims=v_dims,
        )  # fmt: skip
        if min(sizes.values()) < 1 or q_latent_dims < 0 or rope_dims % 2:
            raise ValueError(
                f'{", ".join(sizes)} must be positive, rope_dims even and q_latent_dims at least '
                f'0, got {", ".join(map(str, sizes.values()))} and q_latent_dims={q_latent_dims}'
            )
        self.num_heads, self.causal, self.v_dims = num_heads, causal, v_dims
        self.latent_dims, self.nope_dims, self.rope_dims = latent_dims, nope_dims, rope_dims
        query = num_heads * (nope_dims + rope_dims)
        if q_latent_dims:
            self.wq_a = LorentzLinear(embed_dims, q_latent_dims)
            self.q_norm = LorentzRMSNorm(q_latent_dims)
        self.wq = LorentzLinear(q_latent_dims or embed_dims, query)
        self.wkv_a = LorentzLinear(embed_dims, latent_dims + rope_dims)
        self.kv_norm = LorentzRMSNorm(latent_dims)
        self.wkv_b = LorentzLinear(latent_dims, num_heads * (nope_dims + v_dims))
        self.wo = HeadMerge(num_heads, v_dims, embed_dims)
        self.tau = nn.Parameter(torch.tensor([math.sqrt(num_heads * (nope_dims + rope_dims + 1))]))
        self.rope = HoPE(rope_dims)

    def _latents(self, x: Tensor, start: int) -> Tensor:
        """Rows of the cache ``(B, N, latent_dims + rope_dims)`` of ambient points ``x``."""
        latent, k_rope = self.wkv_a.map(x).split([self.latent_dims, self.rope_dims], -1)
        k_rope = self.rope(k_rope.unsqueeze(2), start).squeeze(2)
        return torch.cat([self.kv_norm(latent), k_rope], -1)

    def _attend_latents(
        self, q: Tensor, latent: Tensor, k_rope: Tensor, c: Tensor | float, mask: Tensor | None
    ) -> Tensor:
        r"""Attention of the last token to expanded latents that are not laid out as points.

        The space components of keys and values are affine in the latent and could be taken into
        query and result. Their time components are not: they need the norm of each head's
        expansion, which costs as much as the expansion itself. So the latents are expanded, and the
        time of a key follows from those of its two parts,
        :math:`k_0^2 = \lVert k^n \rVert^2 + (k^p_0)^2`.

        Args:
            q: Queries ``(B, 1, H, nope_dims + rope_dims)``.
            latent: ``(B, M, latent_dims)``.
            k_rope: Rotated part of the keys, shared by the heads, ``(B, M, rope_dims)``.
            c: Curvature.
            mask: Which keys are seen, bool ``(B, 1, 1, M)``; None: all.

        Returns:
            Ambient points ``(B, 1, H, 1 + v_dims)``.
        """
        kv = self.wkv_b(latent, c).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k, v = kv.split([self.nope_dims, self.v_dims], -1)  # (B, H, M, .)
        q, k_rope = q.transpose(1, 2), k_rope.to(k.dtype).unsqueeze(1)  # (B, H, 1, .), (B, 1, M, .)
        with torch.autocast(q.device.type, enabled=False):
            k_time = torch.hypot(k.norm(dim=-1), lorentz.time(k_rope, c)).unsqueeze(-2)
            v_time = v.norm(dim=-1).square_().add_(1 / c).sqrt_().unsqueeze(-2)  # (B, H, 1, M)
            scores = q[..., : self.nope_dims] @ k.transpose(-2, -1) + q[
                ..., self.nope_dims :
            ] @ k_rope.transpose(-2, -1)
            scores = scores.addcmul_(lorentz.time(q, c, keepdim=True), k_time, value=-1)
            if mask is not None:
                scores = scores.masked_fill_(~mask, -torch.inf)
            weights = scores.mul_(2 / self.tau).softmax(-1)  # (B, H, 1, M)
            time = (weights * v_time).sum(-1, keepdim=True)
            u = torch.cat([time, weights @ v], -1)
        return normalize(u.transpose(1, 2), None, c)

    def forward(
        self,
        x: Tensor,
        c: Tensor | float,
        cache: TokenCache | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Maps points to points; see :meth:`LorentzAttention.forward`."""
        start = cache.length if cache is not None else 0
        x = to_ambient(x, c)
        q = self.wq(self.q_norm(self.wq_a.map(x)), c) if hasattr(self, 'wq_a') else self.wq.map(x)
        q = q.unflatten(-1, (self.num_heads, -1))
        q, q_rope = q.split([self.nope_dims, self.rope_dims], -1)
        q = torch.cat([q, self.rope(q_rope, start)], -1)
        rows = self._latents(x, start)
        rows = rows if cache is None else cache.append(rows)
        latent, k_rope = rows.split([self.latent_dims, self.rope_dims], -1)
        if cache is not None and q.shape[1] == 1:
            return self.wo.map(self._attend_latents(q, latent, k_rope, c, mask))
        k, v = (
            self.wkv_b(latent, c)
            .unflatten(-1, (self.num_heads, -1))
            .split([self.nope_dims, self.v_dims], -1)
        )
        k = torch.cat([k, k_rope.unsqueeze(2).expand(-1, -1, self.num_heads, -1)], -1)
        return self.wo.map(attend_heads(q, k, v, c, self.tau, self.causal, mask))
