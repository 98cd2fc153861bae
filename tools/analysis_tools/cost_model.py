"""What the methods cost, by formula: parameters, multiply-accumulates, activations, communication.

    python tools/analysis_tools/cost_model.py
    python tools/analysis_tools/cost_model.py --check     # the formulas beside measurements
    python tools/analysis_tools/cost_model.py --gpus 8 64 --speed 2 --price 3.5

For planning before a machine is at hand. Costs are those of the method alone, beside the model that
it is added to; of language models, LorentzViT, prompts, text towers and few-shot segmentors, those
of the whole model. Multiply-accumulates are of the forward pass for one image or sequence in
training; the backward pass takes twice as many again. For few-shot segmentors the unit is an
episode, and inner gradients belong to its forward pass. Activations are what is kept for the
backward pass, in float32. Communication is what a process sends each step: a ring all-reduce of the
gradients (DDP), or two gatherings of the weights and a scattering of the gradients (FSDP).

The last table is the wall time and price of the papers' runs, from what a GPU is assumed to compute
in each: an estimate, and no measurement.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from typing import NamedTuple

from cost_cases import CASES, Case
from cost_formulas import (
    all_reduce,
    fully_sharded,
    helm,
    lath_adapter,
    maml,
    maple,
    radial,
)


class Run(NamedTuple):
    """A run of a paper.

    Attributes:
        name: What is trained.
        parameters: Of all weights, in millions.
        trained: Those that are trained, in millions.
        macs: Of the forward pass for one image or sequence, in billions.
        samples: Images, sequences or episodes of the run.
        batch: Of a step, at most so many GPUs can share it.
        teraflops: What a GPU of the class of an A100 is assumed to compute in training, in 10**12
            operations a second: much where matrices are large (language models), little where two
            images are on a GPU, as in detection and segmentation.
    """

    name: str
    parameters: float
    trained: float
    macs: float
    samples: int
    batch: int
    teraflops: float


def language(name: str, dim: int, depth: int, heads: int, hidden: int, tokens: float, batch: int):
    """A run of HELM-D on sequences of 2048 tokens."""
    cost = helm(dim, depth, heads, hidden, 2048, 128256)
    return Run(name, cost.parameters / 1e6, cost.parameters / 1e6, cost.macs / 1e9,
               int(tokens / 2048), batch, 60)  # fmt: skip


def prompts(name: str, classes: int, images: int, batch: int, attributes: int) -> Run:
    """A run of LatHAdapter on MaPLe and CLIP ViT-B/16, with prompts of 14 tokens at most."""
    host = maple((512, 12, 8), (768, 12, 12), 512, classes, 14, 224, 16)
    head = lath_adapter(512, batch, classes, attributes)
    trained = (host.parameters + head.parameters) / 1e6
    macs = host.macs + (host.shared_macs + head.shared_macs) / batch
    return Run(name, 149.6 + trained, trained, macs / 1e9, images, batch, 20)


def chains(name: str, dim: int, depth: int, heads: int, out_dim: int, batch: int) -> Run:
    """An epoch of a radial loss over HierarCaps; captions of 21 tokens, the mean of the longest."""
    cost = radial(dim, depth, heads, out_dim, 21)
    size, macs = cost.parameters / 1e6, cost.macs + cost.shared_macs / batch
    return Run(name, size, size, macs / 1e9, 73_000, batch, 30)


def episodes(name: str, side: int, steps: int, number: int, batch: int, first_order: bool) -> Run:
    """A run of MAML on the small U-Net, of 5 + 5 images; first-order as MetaSeg is."""
    episode = maml(16, side, 5, 5, steps, first_order, support_loss=first_order)
    size = episode.cost.parameters / 1e6
    return Run(name, size, size, episode.step_macs / 3e9, number, batch, 3)


RUNS = (
    Run('Hi-Mapper DeiT-S, ImageNet-1k, 50 epochs', 23.6, 23.6, 4.6, 50 * 1281167, 1024, 30),
    Run('Hi-Mapper DeiT-S + UPerNet, ADE20K, 160k steps', 53.7, 53.7, 61.0, 160_000 * 16, 16, 5),
    Run('Hi-Mapper Swin-T, Mask R-CNN, COCO, 12 epochs', 49.7, 49.7, 281.0, 12 * 117266, 16, 12),
    Run('HyperCLIP ViT-B/16, CAT-Seg, COCO-Stuff, 80k', 160.5, 10.6, 330.0, 80_000 * 4, 4, 8),
    prompts('MaPLe + LatHAdapter, ViT-B/16, ImageNet base, 16 shots, 5 epochs', 500, 40_000, 4, 20),
    chains('radial loss, text tower of ViT-B/32, HierarCaps', 512, 12, 8, 512, 8),
    chains('radial loss, text tower of ViT-L/14, HierarCaps', 768, 12, 12, 768, 8),
    episodes('MAML, U-Net, nuclei, 1000 steps of 4 episodes', 128, 3, 4_000, 4, False),
    episodes('MetaSeg, U-Net, prostate, 20k steps', 384, 1, 20_000, 1, True),
    language('HELM-D 115M, 5 B tokens', 389, 6, 6, 1559, 5.03e9, 1024),
    language('HELM-D 1B, 5 B tokens', 1559, 16, 24, 6239, 5.03e9, 1024),
)
"""Those that the papers report and the configs train.

Multiply-accumulates of images are PyTorch's count for the configs' models: of a 224 x 224 image, a
crop of 512 x 512, of 800 x 1344 pixels with 512 boxes and 128 masks (from 224 x 224, by the number
of pixels), a crop of 384 x 384 with 171 names (from 4 and 12 names). Of prompts, text towers,
U-Nets and HELM they are the formulas. Of text towers only what runs counts as weights; a sample of
MAML and MetaSeg is an episode, with a third of the products of its step.
"""


def hours(run: Run, gpus: int, speed: float = 1.0) -> float:
    """Wall time of a run: forward and backward, of two operations a multiply-accumulate.

    Args:
        run: The run.
        gpus: Number of GPUs.
        speed: Of a GPU, over the assumed one.
    """
    frozen = run.parameters > run.trained  # no gradient of frozen weights, only through them
    operations = run.samples * run.macs * 1e9 * 2 * (2 if frozen else 3)
    return operations / (gpus * speed * run.teraflops * 1e12) / 3600


def print_runs(gpus: Sequence[int], speed: float, price: float) -> None:
    """Prints time, price and communication of the papers' runs."""
    head = ' | '.join(
        f'{n} GPUs: hours; GB sent a step, DDP, FSDP' if n > 1 else '1 GPU: hours' for n in gpus
    )
    print(f'| run | weights (trained), M | GMAC a sample | samples | TFLOP/s | {head} | USD |')
    print('|---' * (6 + len(gpus)) + '|')
    for run in RUNS:
        cells = []
        for n in gpus:
            text = short(hours(run, n, speed))
            if n > 1:
                parts = (all_reduce, run.trained), (fully_sharded, run.parameters)
                text += '; ' + ', '.join(f'{f(int(m * 1e6), n) / 1e9:.2f}' for f, m in parts)
            cells.append(text if n <= run.batch else f'a batch is {run.batch}')
        print(
            f'| {run.name} | {short(run.parameters)} ({short(run.trained)}) | {run.macs:.1f} '
            f'| {run.samples:,} | {run.teraflops * speed:g} | {" | ".join(cells)} '
            f'| {short(hours(run, 1, speed) * price)} |'
        )


def short(number: float) -> str:
    """A number with two digits or more."""
    return f'{number:,.0f}' if number >= 10 else f'{number:.2g}'


def cell(formula: int, value: int | None, unit: float) -> str:
    """A number in units, and the measured one behind it."""
    measured = '' if value is None else f' ({value / unit:.3g})'
    return f'{formula / unit:.3g}{measured}'


def available(case: Case) -> bool:
    """Whether the libraries are there that measure a method."""
    return all(importlib.util.find_spec(name) for name in case.needs)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--check', action='store_true', help='measure the same, in parentheses')
    parser.add_argument('--gpus', type=int, nargs='+', default=[1, 8, 64])
    parser.add_argument('--speed', type=float, default=1, help='of a GPU, over the assumed one')
    parser.add_argument('--price', type=float, default=2.0, help='USD for an hour of a GPU')
    args = parser.parse_args(argv)
    if min(args.gpus) < 1 or args.speed <= 0 or args.price < 0:
        parser.error('--gpus and --speed must be positive, --price at least 0')
    print(
        '| method and size | parameters (M) | MMAC an image | MMAC a batch '
        '| MiB kept an image | MiB kept a batch |'
    )
    print('|---|---|---|---|---|---|')
    for case in CASES:
        found = case.measure() if args.check and available(case) else [None] * 5
        units = 1e6, 1e6, 1e6, 2**20, 2**20
        cells = (cell(*values) for values in zip(case.formula, found, units))
        print(f'| {case.name} | {" | ".join(cells)} |')
    print()
    print_runs(args.gpus, args.speed, args.price)


if __name__ == '__main__':
    main()
