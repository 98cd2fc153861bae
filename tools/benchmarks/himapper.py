"""What Hi-Mapper costs on top of a backbone: time of a training step and of inference, size, MACs.

    python tools/benchmarks/himapper.py
    python tools/benchmarks/himapper.py --backbones deit-s --threads 1 --profile train

The plain backbone and the backbone with the ``HiMapper`` neck share their weights and take turns in
one process; the table shows the median ratio of neighbouring runs and its quartiles. A training
step is forward and backward of the mean of the last feature map, plus the losses of the neck;
inference is the forward pass in evaluation mode. Random weights, random images, float32.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from hyper_mm.layers import HierarchyMapper
from hyper_mm.models import HiMapper
from hyper_mm.models.utils.aux_losses import aux_loss_sources
from hyper_mm.registry import MODELS


class Backbone(NamedTuple):
    """A backbone, and what the released module costs on it.

    Attributes:
        cfg: Config for an image of 224 x 224.
        channels: Width of the last level.
        tokens: Positions of the last level at 224 x 224.
        params: Parameters of the released module, in millions.
        macs: Its multiply-accumulates for one image, in millions.
    """

    cfg: dict
    channels: int
    tokens: int
    params: float
    macs: float


def deit(width: int) -> dict:
    """Config of a DeiT backbone of that width."""
    return dict(
        type='mmseg.VisionTransformer',
        img_size=(224, 224),
        embed_dims=width,
        num_layers=12,
        num_heads=width // 64,
        out_indices=(11,),
        output_cls_token=True,
        norm_cfg=dict(type='LN', eps=1e-6),
        interpolate_mode='bicubic',
    )


BACKBONES = {
    'deit-t': Backbone(deit(192), 192, 196, 1.51, 81),
    'deit-s': Backbone(deit(384), 384, 196, 1.69, 97),
    'deit-b': Backbone(deit(768), 768, 196, 2.07, 128),
    'swin-t': Backbone(dict(type='mmseg.SwinTransformer', out_indices=(3,)), 768, 49, 2.07, 90),
}
TARGETS = dict(train=1.08, inference=1.04)
"""Largest ratio that the project asks for, on DeiT-S with a batch of 8 at 224."""


def steps(
    backbone: nn.Module, neck: nn.Module, images: Tensor, mode: str, optimizer: bool
) -> tuple[Callable[[], None], Callable[[], None]]:
    """One step of the plain backbone, and one of the backbone with the neck.

    Args:
        backbone: The backbone.
        neck: The neck.
        images: A batch ``(B, 3, H, W)``.
        mode: ``'train'`` or ``'inference'``.
        optimizer: Let a training step end with a step of AdamW.

    Returns:
        The two functions.
    """
    both = nn.ModuleList([backbone, neck]).train(mode == 'train')

    def plain() -> Tensor:
        last = backbone(images)[-1]
        return (last if isinstance(last, Tensor) else last[0]).mean()

    def mapped() -> Tensor:
        total = neck(backbone(images))[-1].mean()
        for source in aux_loss_sources(neck).values():
            total = total + sum(v for k, v in source.aux_losses().items() if 'loss' in k)
        return total

    def trained(forward: Callable[[], Tensor], model: nn.Module) -> Callable[[], None]:
        optim = torch.optim.AdamW(model.parameters(), lr=1e-5) if optimizer else None

        def step() -> None:
            model.zero_grad()
            forward().backward()
            if optim is not None:
                optim.step()

        return step

    if mode == 'train':
        return trained(plain, backbone), trained(mapped, both)
    return torch.no_grad()(plain), torch.no_grad()(mapped)


def compare(
    plain: Callable[[], None], mapped: Callable[[], None], repeats: int
) -> tuple[float, list[float]]:
    """Runs the two in turns.

    Args:
        plain: What is compared with.
        mapped: What is measured.
        repeats: Measured pairs, after a warm-up.

    Returns:
        Median time of ``plain`` in seconds, and the quartiles of ``mapped / plain``.
    """

    def seconds(step: Callable[[], None]) -> float:
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    for step in (plain, mapped, plain, mapped):
        step()
    times, ratios = [], []
    for turn in range(repeats):
        pair = (plain, mapped) if turn % 2 else (mapped, plain)
        taken = {step: seconds(step) for step in pair}
        times.append(taken[plain])
        ratios.append(taken[mapped] / taken[plain])
    return statistics.median(times), statistics.quantiles(ratios, n=4, method='inclusive')


def cost(channels: int, tokens: int) -> tuple[float, float]:
    """Size of the module.

    Args:
        channels: Feature width.
        tokens: Positions of the feature map.

    Returns:
        Parameters, and multiply-accumulates of one image in evaluation, both in millions. The lift,
        which only training needs, is counted.
    """
    mapper = HierarchyMapper(channels).eval()
    params = sum(p.numel() for p in mapper.parameters())
    # the counter does not know the fused attention of CPUs
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        found = mapper(torch.zeros(1, tokens, channels), torch.zeros(1, 1, channels))
        mapper.lift(torch.cat(found.levels, 1))
    return params / 1e6, counter.get_total_flops() / 2e6


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--backbones', nargs='+', choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument('--batch', type=int, default=8, help='images a step')
    parser.add_argument('--size', type=int, default=224, help='height and width of the images')
    parser.add_argument('--threads', type=int, default=2, help='threads of torch')
    parser.add_argument('--repeats', type=int, default=15, help='measured pairs of runs')
    parser.add_argument('--optimizer', action='store_true', help='training steps include AdamW')
    parser.add_argument(
        '--profile', choices=TARGETS, help='print where the time of this mode goes instead'
    )
    return parser.parse_args()


def main() -> None:
    """Measures and prints."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    print(
        f'torch {torch.__version__}, {platform.processor() or platform.machine()}, '
        f'{args.threads} threads, batch {args.batch}, {args.size} x {args.size}, float32'
        + (', with AdamW' if args.optimizer else '')
    )
    if args.profile is None:
        print(
            f'{"backbone":10}{"params (M)":>20}{"MACs (M)":>20}{"mode":>12}{"plain (s)":>11}'
            f'{"ratio":>8}{"quartiles":>16}'
        )
    for name in args.backbones:
        entry = BACKBONES[name]
        torch.manual_seed(0)
        backbone = MODELS.build(entry.cfg)
        neck = HiMapper(entry.channels)
        images = torch.randn(args.batch, 3, args.size, args.size)
        params, macs = cost(entry.channels, entry.tokens)
        size = f'{params:.2f} (of {entry.params:.2f})', f'{macs:.0f} (of {entry.macs:.0f})'
        for mode in TARGETS if args.profile is None else [args.profile]:
            plain, mapped = steps(backbone, neck, images, mode, args.optimizer)
            if args.profile:
                print_profile(mapped)
                continue
            seconds, (low, median, high) = compare(plain, mapped, args.repeats)
            print(
                f'{name:10}{size[0]:>20}{size[1]:>20}{mode:>12}{seconds:11.3f}{median:8.3f}'
                f'{f"{low:.3f}-{high:.3f}":>16}',
                flush=True,
            )
    if args.profile is None:
        print(
            'Parameters and MACs of the module, of those of the released one. Asked for on deit-s '
            f'at batch 8: ratios of at most {TARGETS["train"]} (train), {TARGETS["inference"]}.'
        )


def print_profile(step: Callable[[], None], repeats: int = 3) -> None:
    """Prints the operators of a step by their time."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as result:
        for _ in range(repeats):
            step()
    print(result.key_averages().table(sort_by='self_cpu_time_total', row_limit=25))


if __name__ == '__main__':
    main()
