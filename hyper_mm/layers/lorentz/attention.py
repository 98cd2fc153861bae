"""Self-attention on the hyperboloid (HELM), as one scaled dot product attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...ops import lorentz
from ...ops.fused import heads, lift, normalise
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
    keys, time included: the mean key, or the first one where later tokens must not be seen. So it
    is with the values, whose vector is added to the sum. That changes nothing but the rounding,
    which in bfloat16 would swallow the scores of close keys and the Lorentzian norm of the sum.

    Args:
        q: Queries ``(B, H, N, d)``.
        k: Keys ``(B, H, M, d)``; causal queries are those of the last ``N`` tokens.
        v: Values ``(B, H, M, e)``.
        c: Curvature.
        tau: Temperature.
        causal: Token ``i`` sees tokens ``j <= i`` alone.
        mask: Which keys are seen besides, bool ``(B, 1, N, M)``.

    Returns:
        Centroids ``(B, H, N, e)``, in float32 or better.
    """
    heads = (t.transpose(1, 2) for t in (q, k, v))
    return attend_heads(*heads, c, tau, causal, mask)[..., 1:].transpose(1, 2)


def attend_heads(q, k, v, c, tau, causal, mask=None, table=None) -> Tensor:
    """The same of heads ``(B, N, H, d)``; whole points ``(B, N, H, 1 + e)``, time first.

    With a table of :meth:`HoPE.table`, queries and keys are rotated first.
    """
    dims, width = v.shape[-1] + 1, max(q.shape[-1], v.shape[-1]) + 1
    if q.device.type != 'cpu':
        width = -(-width // 8) * 8
    # fused kernels take one width alone, and without them all scores are kept
    centre = 'first' if causal else 'mean'
    q, _ = heads(q, c, table, factor=2 / tau, width=width)
    k, _ = heads(k, c, table, centre=centre, width=width)
    v, middle = heads(v, c, centre=centre, width=width)
    new, seen = q.shape[1], k.shape[1]
    if causal and (mask is not None or new < seen):
        order = torch.ones(new, seen, dtype=torch.bool, device=q.device).tril(seen - new)
        mask = order if mask is None else order & mask
    causal = causal and mask is None
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    u = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=1.0)
    return normalise(u.transpose(1, 2)[..., :dims], middle[..., :dims], c)


def attend_last(q, k, v, c, tau) -> Tensor:
    """Attention of the last token to whole points that a cache keeps, time first.

    Nothing is subtracted from them, and nothing need be in float32.

    Args:
        q: Queries ``(B, 1, H, d)``.
        k: Keys ``(B, M, H, 1 + d)``.
        v: Values ``(B, M, H, 1 + e)``.
        c: Curvature.
        tau: Temperature.

    Returns:
        Whole points ``(B, 1, H, 1 + e)``.
    """
    q = lift(q, c) * (2 / tau)
    q[..., :1].neg_()
    q, k, v = (t.transpose(1, 2) for t in (q.to(k.dtype), k, v))
    with torch.autocast(q.device.type, enabled=False):
        u = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return normalise(u.transpose(1, 2), None, c)


class HeadMerge(nn.Linear):
    """Maps the heads, flattened with their time parts, to the space part of a point."""

    def __init__(self, num_heads: int, head_dims: int, dims: int):
        super().__init__(num_heads * (head_dims + 1), dims)
        nn.init.xavier_uniform_(self.weight, gain=math.sqrt(2))
        nn.init.zeros_(self.bias)

    def forward(self, heads: Tensor, c: Tensor | float) -> Tensor:
        return self.map(lift(heads, c))

    def map(self, lifted: Tensor) -> Tensor:
        """Maps heads of whole points ``(..., H, 1 + head_dims)`` to ``(..., dims)``."""
        return super().forward(lifted.flatten(-2).to(self.weight.dtype))


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
        self.wo = HeadMerge(num_heads, self.head_dims, dims)
        self.tau = nn.Parameter(torch.tensor(math.sqrt(dims + 1)))
        self.rope = HoPE(self.head_dims) if rotary else None

    def heads(
        self,
        x: Tensor,
        c: Tensor | float,
        cache: TokenCache | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Returns the output points of the heads ``(B, N, H, head_dims)``; see :meth:`forward`."""
        return self._heads(x, c, cache, mask)[..., 1:]

    def _heads(self, x, c, cache=None, mask=None) -> Tensor:
        shape, table = (self.num_heads, self.head_dims), None
        start = cache.length if cache is not None else 0
        x = lift(x, c)
        q, k, v = (w.map(x).unflatten(-1, shape) for w in (self.wq, self.wk, self.wv))
        if self.rope is not None and cache is None:
            table = self.rope.table(x)
        elif self.rope is not None:
            q, k = self.rope(torch.cat([q, k], 2), start).chunk(2, 2)
        if cache is not None:
            k, v = cache.append(lift(torch.stack([k, v], 3), c)).unbind(3)
            if q.shape[1] == 1 and mask is None:
                return attend_last(q, k, v, c, self.tau)
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
            x: Points ``(B, N, dims)``: of the whole sequence, or with a cache of its next tokens.
            c: Curvature.
            cache: Keys and values of the tokens before, whole points ``(H, 2, 1 + head_dims)`` a
                token; those of ``x`` are added.
            mask: Which keys are seen besides, bool ``(B, 1, N, M)``.

        Returns:
            Points ``(B, N, dims)``.
        """
        return self.wo.map(self._heads(x, c, cache, mask))


class HMLA(nn.Module):
    r"""Hyperbolic multi-head latent attention: keys and values are expanded from short latents.

    .. math:: (l, k^p) = W^{kv}_a X,\quad (k^n, v) = W^{kv}_b\, \mathrm{lift}(\mathrm{RMS}(l)),
        \quad k = [k^n;\, R k^p],\quad q = [q^n;\, R q^p] = W_q X

    with :math:`k^p` shared by the heads. Joining space parts and taking the time of the result is
    the paper's Lorentzian concatenation. A cache keeps the normalised latent and :math:`R k^p`:
    ``latent_dims + rope_dims`` numbers a token. All dimensions are space dimensions (the release
    counts the time of ``rope`` and ``v``).

    Args:
        dims: Space dimensions of the points.
        num_heads: Number of heads.
        latent_dims: Dimensions of the latent of keys and values.
        nope_dims: Dimensions of a query or key that are not rotated.
        rope_dims: Dimensions that are, even.
        v_dims: Dimensions of a value.
        q_latent_dims: Dimensions of a latent of the queries; 0: they are linear in the points. (The
            release raises for any other value: its norm has a wrong size.)
        causal: Token ``i`` sees tokens ``j <= i`` alone.

    Raises:
        ValueError: If a dimension is not positive, or ``rope_dims`` is odd.
    """

    def __init__(
        self,
        dims: int,
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
            self.wq_a = LorentzLinear(dims, q_latent_dims)
            self.q_norm = LorentzRMSNorm(q_latent_dims)
        self.wq = LorentzLinear(q_latent_dims or dims, query)
        self.wkv_a = LorentzLinear(dims, latent_dims + rope_dims)
        self.kv_norm = LorentzRMSNorm(latent_dims)
        self.wkv_b = LorentzLinear(latent_dims, num_heads * (nope_dims + v_dims))
        self.wo = HeadMerge(num_heads, v_dims, dims)
        self.tau = nn.Parameter(torch.tensor(math.sqrt(num_heads * (nope_dims + rope_dims + 1))))
        self.rope = HoPE(rope_dims)

    def _latents(self, x: Tensor, start: int) -> Tensor:
        """Rows of the cache ``(B, N, latent_dims + rope_dims)`` of whole points."""
        latent, k_rope = self.wkv_a.map(x).split([self.latent_dims, self.rope_dims], -1)
        k_rope = self.rope(k_rope.unsqueeze(2), start).squeeze(2)
        return torch.cat([self.kv_norm(latent), k_rope], -1)

    def attend_last(self, q: Tensor, latent: Tensor, k_rope: Tensor, c: Tensor | float) -> Tensor:
        r"""Attention of the last token, on expanded latents that are not laid out as points.

        The space parts of keys and values are affine in the latent and could be taken into query
        and result. Their time parts are not: they need the norm of each head's expansion, which is
        as dear as the expansion itself. So it is done, and the time of a key follows from those of
        its two parts, :math:`k_0^2 = \lVert k^n \rVert^2 + (k^p_0)^2`.
        """
        kv = self.wkv_b(latent, c).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k, v = kv.split([self.nope_dims, self.v_dims], -1)
        q, k_rope = q.transpose(1, 2), k_rope.to(k.dtype).unsqueeze(1)
        with torch.autocast(q.device.type, enabled=False):
            k_time = torch.hypot(k.norm(dim=-1), lorentz.time(k_rope, c)).unsqueeze(-2)
            v_time = v.norm(dim=-1).square_().add_(1 / c).sqrt_().unsqueeze(-2)
            scores = q[..., : self.nope_dims] @ k.mT + q[..., self.nope_dims :] @ k_rope.mT
            scores = scores.addcmul_(lorentz.time(q, c, keepdim=True), k_time, value=-1)
            weights = scores.mul_(2 / self.tau).softmax(-1)
            time = (weights * v_time).sum(-1, keepdim=True)
            u = torch.cat([time, weights @ v], -1)
        return normalise(u.transpose(1, 2), None, c)

    def forward(
        self,
        x: Tensor,
        c: Tensor | float,
        cache: TokenCache | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Maps points to points; see :meth:`LorentzAttention.forward`."""
        start = cache.length if cache is not None else 0
        x = lift(x, c)
        q = self.wq(self.q_norm(self.wq_a.map(x)), c) if hasattr(self, 'wq_a') else self.wq.map(x)
        q = q.unflatten(-1, (self.num_heads, -1))
        q, q_rope = q.split([self.nope_dims, self.rope_dims], -1)
        q = torch.cat([q, self.rope(q_rope, start)], -1)
        rows = self._latents(x, start)
        rows = rows if cache is None else cache.append(rows)
        latent, k_rope = rows.split([self.latent_dims, self.rope_dims], -1)
        if cache is not None and q.shape[1] == 1 and mask is None:
            return self.wo.map(self._attend_last(q, latent, k_rope, c))
        k, v = (
            self.wkv_b(latent, c)
            .unflatten(-1, (self.num_heads, -1))
            .split([self.nope_dims, self.v_dims], -1)
        )
        k = torch.cat([k, k_rope.unsqueeze(2).expand(-1, -1, self.num_heads, -1)], -1)
        return self.wo.map(attend_heads(q, k, v, c, self.tau, self.causal, mask))
