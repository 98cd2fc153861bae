"""Cost aggregation of CAT-Seg: ours against a straightforward implementation of the specification.

    python tools/benchmarks/cost_aggregation.py
    python tools/benchmarks/cost_aggregation.py --memory 847

The straightforward one concatenates guidance for every class, rolls and masks windows, computes
attention by two matrix products and a softmax, pads with real tokens, and repeats the decoder's
guidance for every class. Both have the same weights and give the same logits. They take turns in
one process; the table has the median of the ratios of neighboring runs, and its quartiles.
`--memory` measures the peak memory of one training step in a process of its own instead.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

from timing import note, peak_rss, quartiles

if TYPE_CHECKING:
    from torch import Tensor, nn


def inputs(classes: int, side: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Random features of one image, of texts, and guidance."""
    import torch

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
    import torch

    from hyper_mm.layers import CostAggregator

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.memory:
        pad_len = 0 if args.all else 256
        module = CostAggregator(pad_len=pad_len, checkpoint=True)
        before = peak_rss()
        seconds = step(module, inputs(args.memory, args.side))
        peak = peak_rss()
        print(
            f'{args.memory} classes, of which {min(args.memory, pad_len or args.memory)} are '
            f'aggregated, one training step with checkpointing: {seconds:.1f} s, peak '
            f'{peak / 2**30:.2f} GiB of the process, {(peak - before) / 2**30:.2f} GiB of the step'
        )
        return
    ours = CostAggregator()
    from straightforward_aggregator import StraightforwardAggregator

    other = StraightforwardAggregator(ours)
    given = inputs(args.classes, args.side)
    with torch.no_grad():
        difference = (ours(*given) - other(*given)).abs().max().item()
    step(ours, given), step(other, given)
    pairs = [(step(other, given), step(ours, given)) for _ in range(args.repeats)]
    ratios = sorted(a / b for a, b in pairs)
    low, median, high = quartiles(ratios)
    a, b = (statistics.median(times) for times in zip(*pairs))
    note(f'straightforward over ours, {args.classes} classes', ratios, 'times', 'higher', b)
    print(
        f'torch {torch.__version__}, {args.threads} threads, {args.classes} classes, '
        f'{args.side} x {args.side} patches, forward and backward\n'
        f'straightforward {a:.2f} s, ours {b:.2f} s: {median:.2f} times as fast '
        f'({low:.2f}-{high:.2f}); largest difference of logits {difference:.1e}'
    )


if __name__ == '__main__':
    main()
