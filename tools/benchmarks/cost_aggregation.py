"""Cost aggregation of CAT-Seg: ours against a straightforward implementation of the specification.

    python tools/benchmarks/cost_aggregation.py
    python tools/benchmarks/cost_aggregation.py --memory 847

The straightforward one concatenates guidance for every class, rolls and masks windows, computes
attention by two matrix products and a softmax, pads with real tokens, and repeats the decoder's
guidance for every class. Both have the same weights and give the same logits. They take turns in
one process; the table has the median of the ratios of neighbouring runs, and its quartiles.
`--memory` measures the peak memory of one training step in a process of its own instead.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

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


def inputs(classes: int, side: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Random features of one image, of texts, and guidance."""
    image = torch.randn(1, 512, side, side, requires_grad=True)
    text = torch.randn(classes, 1, 512, requires_grad=True)
    maps = [torch.randn(1, c, k * side, k * side) for c, k in ((256, 2), (128, 4))]
    return image, text, [image, *maps]


def step(module: nn.Module, given: tuple) -> float:
    """Time of a forward and backward pass in seconds."""
    module.zero_grad()
    start = time.perf_counter()
    module(*given).square().mean().backward()
    return time.perf_counter() - start


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--classes', type=int, default=171)
    parser.add_argument('--side', type=int, default=24, help='patches along a side: 24 at 384 px')
    parser.add_argument('--threads', type=int, default=2, help='threads of torch')
    parser.add_argument('--repeats', type=int, default=5, help='measured pairs of runs')
    parser.add_argument('--memory', type=int, metavar='CLASSES', help='measure memory instead')
    parser.add_argument('--all', action='store_true', help='with --memory: keep all classes')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.memory:
        pad_len = 0 if args.all else 256
        module = CostAggregator(pad_len=pad_len, checkpoint=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = step(module, inputs(args.memory, args.side))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(
            f'{args.memory} classes, of which {min(args.memory, pad_len or args.memory)} are '
            f'aggregated, one training step with checkpointing: {seconds:.1f} s, peak '
            f'{peak / 2**20:.2f} GiB of the process, {(peak - before) / 2**20:.2f} GiB of the step'
        )
        return
    ours = CostAggregator()
    other = StraightforwardAggregator(ours)
    given = inputs(args.classes, args.side)
    with torch.no_grad():
        difference = (ours(*given) - other(*given)).abs().max().item()
    step(ours, given), step(other, given)
    pairs = [(step(other, given), step(ours, given)) for _ in range(args.repeats)]
    ratios = sorted(a / b for a, b in pairs)
    low, median, high = statistics.quantiles(ratios, n=4, method='inclusive')
    a, b = (statistics.median(times) for times in zip(*pairs))
    print(
        f'torch {torch.__version__}, {args.threads} threads, {args.classes} classes, '
        f'{args.side} x {args.side} patches, forward and backward\n'
        f'straightforward {a:.2f} s, ours {b:.2f} s: {median:.2f} times as fast '
        f'({low:.2f}-{high:.2f}); largest difference of logits {difference:.1e}'
    )


if __name__ == '__main__':
    main()
