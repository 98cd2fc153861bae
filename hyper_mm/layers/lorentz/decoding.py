"""The next token of each sequence, taken through a block in as few calls as possible.

It is computed as by the modules, from their parameters, without their calls and checks, by
:mod:`hyper_mm.ops.few_calls`. What is changed in a module (a subclass, a hook, a parametrization,
an adapter) would be missed, so that modules that are not plain are called as ever.

There are two ways because they exclude each other: this one writes in place, which gradients do not
allow, and leaves out what training needs; a token takes half the time that the modules take (of
HELM in miniature, one thread). That both agree is tested for every kind of part.
"""

from __future__ import annotations

import math
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...compat import is_autocasting, is_compiling
from ...ops import few_calls
from ..common.curvature import Curvature
from .attention import HMLA, HeadMerge, LorentzAttention
from .cache import TokenCache
from .ffn import LorentzSwiGLU
from .hope import HoPE
from .linear import LorentzLinear
from .mice import MiCE
from .norm import LorentzResidual, LorentzRMSNorm

Network = tuple[float, list[Tensor], list[Tensor]]
"""An expert: its curvature, weights 1 to 3, biases."""

_KNOWN = {
    Curvature,
    HMLA,
    HeadMerge,
    HoPE,
    LorentzAttention,
    LorentzLinear,
    LorentzRMSNorm,
    LorentzResidual,
    LorentzSwiGLU,
    MiCE,
    nn.ModuleList,
}


class Block(Protocol):
    """What is needed of a :class:`.LorentzBlock`, which takes :func:`step` from here."""

    norm1: LorentzRMSNorm
    norm2: LorentzRMSNorm
    res1: LorentzResidual
    res2: LorentzResidual
    attention: nn.Module
    ffn: nn.Module
    training: bool
    _modules: dict[str, nn.Module | None]


def is_plain(module: nn.Module | None) -> bool:
    """Whether a module and its parts are what they were built as, without hooks."""
    return module is None or (
        type(module) in _KNOWN
        and 'forward' not in vars(module)
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and all(map(is_plain, module._modules.values()))
    )


def takes_few_calls(block: Block, x: Tensor, c: Tensor | float, cache: TokenCache | None) -> bool:
    """Whether :func:`step` is to compute a block.

    Args:
        block: A :class:`.LorentzBlock`.
        x: Its input ``(B, N, embed_dims)``.
        c: Curvature.
        cache: Its cache.
    """
    return (
        cache is not None
        and x.shape[1] == 1
        and isinstance(c, float)
        and x.device.type == 'cpu'
        and x.dtype == block.norm1.weight.dtype
        and x.dtype in (torch.float32, torch.float64)
        and not block.training
        and not torch.is_grad_enabled()
        and not is_autocasting('cpu')
        and not is_compiling()
        and type(block.attention) in (LorentzAttention, HMLA)
        and (type(block.ffn) is LorentzSwiGLU or _is_usual(block.ffn))
        and all(map(is_plain, block._modules.values()))
    )


def _is_usual(ffn: nn.Module) -> bool:
    if type(ffn) is not MiCE or not len(ffn.shared):
        return False
    return (ffn.combine, ffn.transfer, ffn.gates) == ('centroid', 'homothety', 'linear')


def step(block: Block, x: Tensor, c: float, cache: TokenCache, mask: Tensor | None) -> Tensor:
    """Takes the next token of each sequence through a block.

    Args:
        block: A :class:`.LorentzBlock` of plain modules.
        x: Points ``(B, 1, embed_dims)``.
        c: Curvature.
        cache: What the block keeps of the tokens before.
        mask: Which keys are seen, bool ``(B, 1, 1, M)``; None: all.

    Returns:
        Points ``(B, 1, embed_dims)``.
    """
    attention, ffn = block.attention, block.ffn
    size = few_calls.norm(x)
    points = _normed(block.norm1, x, size, c)
    if isinstance(attention, LorentzAttention):
        y = _attention(attention, points, c, cache, mask)
    else:
        y = _latent_attention(cast(HMLA, attention), points, c, cache, mask)
    x = _added(block.res1, x, size, y, c)
    size = few_calls.norm(x)
    points = _normed(block.norm2, x, size, c)
    if isinstance(ffn, LorentzSwiGLU):
        y = _swiglu(ffn, points, c)
    else:
        y = _mice(cast(MiCE, ffn), points, c)
    return _added(block.res2, x, size, y, c)


def _normed(module: LorentzRMSNorm, x: Tensor, size: Tensor, c: float) -> Tensor:
    return few_calls.to_ambient(few_calls.rms_norm(x, size, module.weight, module.eps), c)


def _added(module: LorentzResidual, x: Tensor, size: Tensor, y: Tensor, c: float) -> Tensor:
    return few_calls.add(x, size, y, module.weight.item(), c, module.scale)


def _linear(module: LorentzLinear | HeadMerge, x: Tensor) -> Tensor:
    return F.linear(x, module.weight, module.bias)


def _turn(rope: HoPE, x: Tensor, start: int) -> None:
    """Rotates points ``(B, 1, ..., d)`` in place."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    pairs.mul_(cast(Tensor, rope.table(x, start)))


def _attention(
    module: LorentzAttention, x: Tensor, c: float, cache: TokenCache, mask: Tensor | None
) -> Tensor:
    """Attention of ambient points ``(B, 1, 1 + d)``."""
    shape, start = (len(x), 1, 3, module.num_heads, module.head_dims), cache.length
    parts = [_linear(linear, x) for linear in (module.wq, module.wk, module.wv)]
    heads = torch.stack(parts, 2).view(shape)
    if module.rope is not None:
        _turn(module.rope, heads[:, :, :2], start)
    heads = few_calls.to_ambient(heads, c)  # (B, 1, 3, H, 1 + head_dims)
    k, v = cache.append(heads[:, :, 1:]).unbind(2)
    q = heads[:, :, 0]
    q[..., :1].neg_()  # [-q0; q] . [k0; k] = <q, k>_L
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    scale = 2 / module.tau.item()
    u = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)  # (B, H, 1, .)
    return _linear(module.wo, few_calls.normalize(u, c).reshape(len(x), 1, -1))


def _latent_attention(
    module: HMLA, x: Tensor, c: float, cache: TokenCache, mask: Tensor | None
) -> Tensor:
    """The same from latents; see :meth:`HMLA._attend_latents` for what is computed."""
    count, num, start = len(x), module.num_heads, cache.length
    nope, latents = module.nope_dims, module.latent_dims
    if hasattr(module, 'wq_a'):
        q = _linear(module.wq_a, x)
        q = _linear(module.wq, _normed(module.q_norm, q, few_calls.norm(q), c))
    else:
        q = _linear(module.wq, x)
    q = q.view(count, 1, num, -1)
    q_time = few_calls.time_of(few_calls.norm(q), c)  # rotations leave it
    rows = _linear(module.wkv_a, x)
    latent = rows[..., :latents]
    # (B, 1, H + 1, rope_dims): of all queries, and of the key that they share
    turned = torch.cat([q[..., nope:], rows[..., latents:].unsqueeze(2)], 2)
    _turn(module.rope, turned, start)
    norm = module.kv_norm
    latent = few_calls.rms_norm(latent, few_calls.norm(latent), norm.weight, norm.eps)
    rows = cache.append(torch.cat([latent, turned[:, :, num]], -1))
    latent, k_rope = rows[..., :latents], rows[..., latents:]  # (B, M, .)
    # heads first, so that the products below need no copies: (H, B M, nope + v)
    points = few_calls.to_ambient(latent, c).flatten(0, 1)
    weight = module.wkv_b.weight.reshape(num, -1, latents + 1).transpose(1, 2)
    bias = cast(Tensor, module.wkv_b.bias).view(num, 1, -1)
    kv = torch.baddbmm(bias, points.expand(num, -1, -1), weight).view(num, count, len(rows[0]), -1)
    k, v = kv[..., :nope], kv[..., nope:]
    k_time = torch.hypot(few_calls.norm(k), few_calls.time_of(few_calls.norm(k_rope), c))
    v_time = few_calls.time_of(few_calls.norm(v), c)  # (H, B, M, 1)
    flat = num * count, 1, -1
    scores = torch.bmm(
        q[..., :nope].permute(2, 0, 1, 3).reshape(flat), k.flatten(0, 1).transpose(1, 2)
    ).view(num, count, -1)
    scores = scores.addcmul_(
        q_time.view(count, num, 1).transpose(0, 1), k_time.squeeze(-1), value=-1
    )
    scores.add_(torch.bmm(turned[:, 0, :num], k_rope.transpose(1, 2)).transpose(0, 1))
    if mask is not None:
        scores.masked_fill_(~mask[:, 0, 0], -torch.inf)
    weights = scores.mul_(few_calls.number(2 / module.tau.item(), scores)).softmax(-1)
    time = torch.linalg.vecdot(weights, v_time.squeeze(-1)).view(num, count, 1)
    space = torch.bmm(weights.view(num * count, 1, -1), v.flatten(0, 1)).view(num, count, -1)
    u = few_calls.normalize(torch.cat([time, space], -1), c)
    return _linear(module.wo, u.transpose(0, 1).reshape(count, 1, -1))


def _swiglu(module: LorentzSwiGLU, x: Tensor, c: float) -> Tensor:
    """Feed-forward network of ambient points."""
    hidden = few_calls.gated_ambient(_linear(module.w1, x), _linear(module.w3, x), c)
    return _linear(module.w2, hidden)


def _value(curvature: nn.Module) -> float:
    found = cast(Curvature, curvature)
    return math.exp(found.log.item() + found.log_initial.item())


def _expert(x: Tensor, c: float, own: float, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    r"""Network of an expert: :math:`\tfrac1s f(sx)` with ``f`` of its own curvature."""
    (w1, w2, w3), (b1, b2, b3), scale = weights, biases, (c / own) ** 0.5
    if scale != 1:
        x = x * few_calls.number(scale, x)
    hidden = few_calls.gated_ambient(F.linear(x, w1, b1), F.linear(x, w3, b3), own)
    out = F.linear(hidden, w2, b2)
    return out if scale == 1 else out.mul_(few_calls.number(1 / scale, x))


def _shared(module: MiCE, c: float) -> list[Network]:
    """Curvature, weights and biases of the shared experts."""
    shared = cast('list[LorentzSwiGLU]', [*module.shared])
    owns = [_value(curvature) for curvature in module.shared_curvatures] or [c] * len(shared)
    parts = [(ffn.w1, ffn.w2, ffn.w3) for ffn in shared]
    return [
        (own, [p.weight for p in part], [cast(Tensor, p.bias) for p in part])
        for own, part in zip(owns, parts)
    ]


def _routed(module: MiCE, expert: int) -> Network:
    """The same of a routed one."""
    weights = [w[expert] for w in (module.w1, module.w2, module.w3)]
    biases = [b[expert] for b in (module.b1, module.b2, module.b3)]
    return _value(module.curvatures[expert]), weights, biases


def _experts_of_one(module: MiCE, x: Tensor, c: float, indices: Tensor) -> Tensor:
    """Results ``(1, shared + k, d)`` of the experts of one token, together as far as they go."""
    networks = [*_shared(module, c), *(_routed(module, i) for i in indices[0].tolist())]
    owns, weights, biases = zip(*networks)
    scales = x.new_tensor([(c / own) ** 0.5 for own in owns]).unsqueeze(-1)

    def maps(rows: Tensor, which: int) -> Tensor:
        every = zip(rows.split(1), weights, biases)
        return torch.cat([F.linear(row, w[which], b[which]) for row, w, b in every])

    rows = x * scales
    hidden = F.silu(maps(rows, 0), inplace=True).mul_(maps(rows, 2))
    times = torch.hypot(few_calls.norm(hidden), scales * c**-0.5)  # own^(-1/2) = scale c^(-1/2)
    return maps(torch.cat([times, hidden], -1), 1).div_(scales).unsqueeze(0)


def _experts(module: MiCE, x: Tensor, c: float, indices: Tensor) -> Tensor:
    """Results ``(B, shared + k, d)`` of the experts of several tokens, one expert at a time."""
    shared = _shared(module, c)
    points = x.new_empty(len(x), len(shared) + indices.shape[1], x.shape[1] - 1)
    for i, network in enumerate(shared):
        points[:, i] = _expert(x, c, *network)
    places: dict[int, tuple[list[int], list[int]]] = {}
    for row, experts in enumerate(indices.tolist()):
        for rank, expert in enumerate(experts):
            rows, ranks = places.setdefault(expert, ([], []))
            rows.append(row)
            ranks.append(len(shared) + rank)
    for expert, (rows, ranks) in places.items():
        points[rows, ranks] = _expert(x[rows], c, *_routed(module, expert))
    return points


def _mice(module: MiCE, x: Tensor, c: float) -> Tensor:
    """Experts of ambient points ``(B, 1, 1 + d)``."""
    shape, x = x.shape, x.flatten(0, 1)
    logits = F.linear(x[:, 1:], module.gate)
    scores = logits.softmax(-1) if module.score == 'softmax' else logits.sigmoid()
    indices = (scores + module.bias).topk(module.top_k).indices
    gates = scores.gather(-1, indices)
    if module.renormalize:
        gates = gates / gates.sum(-1, keepdim=True)
    count = len(module.shared)
    points = (_experts_of_one if len(x) == 1 else _experts)(module, x, c, indices)
    gates = torch.cat([gates.new_ones(len(x), count), gates], -1).unsqueeze(-1)
    return few_calls.centroid(points, gates, c).view(*shape[:-1], -1)
