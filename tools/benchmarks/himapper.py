"""What Hi-Mapper costs a classifier: time of a training step and of inference, size, MACs.

    python tools/benchmarks/himapper.py
    python tools/benchmarks/himapper.py --backbones deit-s --threads 1 --profile train
    python tools/benchmarks/himapper.py --recipe recommended --negatives --batch 16

The models of ``configs/himapper/himapper_<backbone>_imagenet.py`` and of its baseline take turns in
one process; the table shows the median ratio of neighboring runs and its quartiles. A training
step is forward and backward of all losses; inference is the forward pass up to the scores, in
evaluation mode. Random weights, random images, float32. With --negatives the two models have
Hi-Mapper both, and the second one the negatives of the other images of the batch, too.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from timing import ratio

if TYPE_CHECKING:
    from torch import nn


CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
MODES = ('train', 'inference')


class Backbone(NamedTuple):
    """What the module may cost on a backbone.

    Attributes:
        channels: Width of the last level.
        tokens: Positions of the last level at 224 x 224.
        params: Parameters of the official module, in millions.
        macs: Its multiply-accumulates for one image, in millions.
        train: Largest ratio of a training step that the project asks for, if it does.
        inference: Largest ratio of inference.
    """

    channels: int
    tokens: int
    params: float
    macs: float
    train: float | None = None
    inference: float | None = None


BACKBONES = {
    'deit-t': Backbone(192, 196, 1.51, 81, 1.10),
    'deit-s': Backbone(384, 196, 1.69, 97, 1.08, 1.04),
    'deit-b': Backbone(768, 196, 2.07, 128, 1.05),
    'swin-t': Backbone(768, 49, 2.07, 90, 1.05),
    'swin-s': Backbone(768, 49, 2.07, 90),
    'resnet-50': Backbone(2048, 49, 3.31, 170, 1.05),
    'efficientnet-b4': Backbone(1792, 49, 3.06, 154),
}


def build(name: str, recipe: str | None = None, **loss: object) -> nn.Module:
    """Model of an ImageNet config, with random weights; with Hi-Mapper, of a recipe."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from hyper_mm.registry import MODELS

    cfg = Config.fromfile(CONFIGS / 'himapper' / f'{name}_imagenet.py').model
    init_default_scope('mmpretrain')
    cfg.pop('train_cfg', None)  # mixup and cutmix of the data preprocessor
    cfg.backbone.pop('init_cfg', None)
    if recipe is not None:
        cfg.neck.update(recipe=recipe, loss=dict(loss))
    return MODELS.build(cfg)


def step_of(model: nn.Module, batch: int, size: int, mode: str, optimizer: bool) -> Callable:
    """One step of a model on random images.

    Args:
        model: A classifier.
        batch: Images a step.
        size: Their height and width.
        mode: ``'train'`` or ``'inference'``.
        optimizer: Let a training step end with a step of AdamW.

    Returns:
        A function.
    """
    import torch
    from mmpretrain.structures import DataSample

    images = torch.randn(batch, 3, size, size)
    samples = [DataSample().set_gt_label(i % 1000) for i in range(batch)]
    model.train(mode == 'train')
    if mode == 'inference':
        return torch.no_grad()(lambda: model(images))
    optim = torch.optim.AdamW(model.parameters(), lr=1e-5) if optimizer else None

    def step() -> None:
        model.zero_grad()
        losses = model.loss(images, samples)
        sum(value for key, value in losses.items() if 'loss' in key).backward()
        if optim is not None:
            optim.step()

    return step


def cost(channels: int, tokens: int) -> tuple[float, float]:
    """Size of the module.

    Args:
        channels: Feature width.
        tokens: Positions of the feature map.

    Returns:
        Parameters, and multiply-accumulates of one image in evaluation, both in millions. The lift,
        which only training needs, is counted.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from hyper_mm.layers import HierarchyMapper

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
    parser.add_argument('--recipe', choices=('paper', 'recommended'), default='paper')
    parser.add_argument(
        '--negatives', action='store_true', help='measure the negatives across images alone'
    )
    parser.add_argument('--optimizer', action='store_true', help='training steps include AdamW')
    parser.add_argument(
        '--profile', choices=MODES, help='print where the time of this mode goes instead'
    )
    return parser.parse_args()


def main() -> None:
    """Measures and prints."""
    args = parse_args()
    import torch

    torch.set_num_threads(args.threads)
    print(
        f'torch {torch.__version__}, {platform.processor() or platform.machine()}, '
        f'{args.threads} threads, batch {args.batch}, {args.size} x {args.size}, float32'
        + (', with AdamW' if args.optimizer else '')
    )
    if args.profile is None:
        print(
            f'{"backbone":16}{"params (M)":>18}{"MACs (M)":>16}{"mode":>12}{"plain (s)":>11}'
            f'{"ratio":>8}{"quartiles":>16}{"asked for":>11}'
        )
    for name in args.backbones:
        entry = BACKBONES[name]
        torch.manual_seed(0)
        models = build(name), build(f'himapper_{name}', args.recipe)
        if args.negatives:
            models = tuple(
                build(f'himapper_{name}', args.recipe, across_images=across)
                for across in (False, True)
            )
        params, macs = cost(entry.channels, entry.tokens)
        size = f'{params:.2f} (of {entry.params:.2f})', f'{macs:.0f} (of {entry.macs:.0f})'
        modes = ['train'] if args.negatives else MODES
        for mode in modes if args.profile is None else [args.profile]:
            plain, mapped = (
                step_of(m, args.batch, args.size, mode, args.optimizer) for m in models
            )
            if args.profile:
                print_profile(mapped)
                continue
            seconds, (low, median, high) = ratio(
                plain, mapped, args.repeats, name=f'{name}, {mode}, Hi-Mapper over plain'
            )
            print(
                f'{name:16}{size[0]:>18}{size[1]:>16}{mode:>12}{seconds:11.3f}{median:8.3f}'
                f'{f"{low:.3f}-{high:.3f}":>16}{getattr(entry, mode) or "":>11}',
                flush=True,
            )
    if args.profile is None:
        print('Parameters and MACs are those of the module, of those of the official one.')


def print_profile(step: Callable[[], None], repeats: int = 3) -> None:
    """Prints the operators of a step by their time."""
    from torch.profiler import ProfilerActivity, profile

    step()
    with profile(activities=[ProfilerActivity.CPU]) as result:
        for _ in range(repeats):
            step()
    print(result.key_averages().table(sort_by='self_cpu_time_total', row_limit=25))


if __name__ == '__main__':
    main()
