"""CAT-Seg's cost aggregation as the specification reads: what cost_aggregation.py compares with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyper_mm.layers import CostAggregator
from hyper_mm.layers.open_vocab.cost_attention import ClassAttention, WindowBlock


class StraightforwardAggregator(nn.Module):
    """The same function, written as the specification reads.

    Args:
        ours: The module whose weights it takes.
    """

    def __init__(self, ours: CostAggregator):
        super().__init__()
        self.ours = ours

    def forward(self, image: Tensor, text: Tensor, guidance: list[Tensor]) -> Tensor:
        """Logits; see :class:`CostAggregator`. No more than ``pad_len`` classes."""
        ours, classes = self.ours, text.shape[0]
        cost = torch.einsum('bdhw,tpd->btphw', F.normalize(image, dim=1), F.normalize(text, dim=-1))
        x = ours.embed(cost.flatten(0, 1)).unflatten(0, cost.shape[:2])  # B T C H W
        appearance = ours.appearance_proj(guidance[0])
        text = ours.text_proj(F.normalize(text.mean(1), dim=-1)).expand(len(image), -1, -1)
        pooling = ours.train_pooling if self.training else ours.test_pooling
        for layer in ours.layers:
            guide = layer.norm(appearance.permute(0, 2, 3, 1))
            guide = guide.repeat_interleave(classes, 0)
            y = x.flatten(0, 1).permute(0, 2, 3, 1)
            for block in layer.windows:
                y = window_block(block, y, guide)
            x = y.permute(0, 3, 1, 2).unflatten(0, x.shape[:2])
            x = x + class_attention(layer.classes, x, text, pooling)
        x = x.flatten(0, 1)
        for block, project, guide in zip(ours.decoder.blocks, ours.guidance_projs, guidance[1:]):
            guide = project(guide).repeat_interleave(classes, 0)
            x = block.conv1(torch.cat([block.up(x), guide], 1))
            x = block.norm2(block.conv2(block.norm1(x).relu())).relu()
        return ours.decoder.head(x).squeeze(1).unflatten(0, (len(image), classes))


def guided(project: nn.Module, x: Tensor, guidance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values by concatenation."""
    dim = x.shape[-1]
    qk, v = project.qkv.weight.split((2 * dim, dim))
    qk_bias, v_bias = project.qkv.bias.split((2 * dim, dim))
    weight = torch.cat([qk, project.guidance.weight], 1)
    q, k = F.linear(torch.cat([x, guidance], -1), weight, qk_bias).chunk(2, -1)
    return q, k, F.linear(x, v, v_bias)


def window_block(block: WindowBlock, x: Tensor, guidance: Tensor) -> Tensor:
    """Swin's windows ``(N, H, W, C)``, rolled and masked."""
    height, width = x.shape[1:3]
    side = min(block.window, height, width)
    shift = side // 2 if block.shifted and min(height, width) > side else 0

    def windows(t: Tensor) -> Tensor:
        t = t.unflatten(1, (-1, side)).unflatten(3, (-1, side))
        return t.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(0, 2)

    rolled = (t.roll((-shift, -shift), (1, 2)) for t in (block.norm1(x), guidance))
    q, k, v = guided(block.project, *(windows(t) for t in rolled))
    q, k, v = (t.unflatten(-1, (block.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
    logits = q * q.shape[-1] ** -0.5 @ k.mT
    if shift:
        region = torch.zeros(1, height, width, 1)
        cuts = (slice(0, -side), slice(-side, -shift), slice(-shift, None))
        for i, rows in enumerate(cuts):
            for j, columns in enumerate(cuts):
                region[:, rows, columns] = 3 * i + j
        region = windows(region).squeeze(-1)
        mask = (region[:, :, None] != region[:, None]) * -100.0
        logits = logits.unflatten(0, (-1, len(mask))) + mask[None, :, None]
        logits = logits.flatten(0, 1)
    y = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
    y = y.unflatten(1, (side, side)).unflatten(0, (-1, height // side, width // side))
    y = y.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2).roll((shift, shift), (1, 2))
    x = x + block.out_proj(y)
    return x + block.mlp(block.norm2(x))


def class_attention(
    module: ClassAttention, x: Tensor, guidance: Tensor, pooling: tuple[int, int]
) -> Tensor:
    """Linear attention over the classes of ``(B, T, C, H, W)``, with padding tokens."""
    batch, classes, dim, height, width = x.shape
    y = F.avg_pool2d(x.flatten(0, 1), pooling).unflatten(0, (batch, classes))
    size = y.shape[-2:]
    y = y.permute(0, 3, 4, 1, 2).flatten(0, 2)
    missing = module.pad_len - classes
    if missing > 0:
        y = torch.cat([y, module.padding.expand(len(y), missing, dim)], 1)
        padding = module.padding_guidance.expand(batch, missing, -1)
        guidance = torch.cat([guidance, padding], 1)
    guidance = guidance.repeat_interleave(size[0] * size[1], 0)
    parts = guided(module.project, module.norm1(y), guidance)
    q, k, v = (t.unflatten(-1, (module.num_heads, -1)) for t in parts)
    q, k = F.elu(q) + 1, F.elu(k) + 1
    memory = torch.einsum('nshd,nshv->nhdv', k, v)
    total = torch.einsum('nlhd,nhd->nlh', q, k.sum(1)) + 1e-6
    y = y + (torch.einsum('nlhd,nhdv->nlhv', q, memory) / total.unsqueeze(-1)).flatten(2)
    y = (y + module.mlp(module.norm2(y)))[:, :classes]
    y = y.unflatten(0, (batch, *size)).permute(0, 3, 4, 1, 2).flatten(0, 1)
    y = F.interpolate(y, (height, width), mode='bilinear', align_corners=True)
    return y.unflatten(0, (batch, classes))
