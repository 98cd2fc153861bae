"""What LatHAdapter costs: its triplet loss, its head on a host, and the memory of many classes.

    python tools/benchmarks/lathadapter.py
    python tools/benchmarks/lathadapter.py --parts memory --classes 250 --text-layers 3

triplets  forward and backward of the hierarchy loss, 64 points and 20 ancestors in 512 dimensions,
          beside a Python loop over the same triplets (whose distances are computed all at once,
          which HIER's official code does too); the two agree in value and gradient without noise
overhead  MaPLe on ViT-B/16 with the head beside MaPLe without: a training step of 4 images and 50
          classes, and inference of a batch
memory    class features of MaPLe and their backward pass, in chunks with checkpoints beside all at
          once: peak memory beside the weights, and the difference of the gradients

Times are CPU times of the process on one thread: those of others that compute do not count, though
what they take of caches and clock rate does. Two rivals take turns; each line has the ratio of
their least times, and the quartiles of the ratios of neighboring runs. Peaks are those of /proc
(Linux), in a process whose allocator gives memory back at once (glibc keeps what was freed, and the
peak of chunks would be that of its leftovers). Weights, images and names are random.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from timing import in_turns, note, quartiles

if TYPE_CHECKING:
    from torch import Tensor

    from hyper_mm.layers import LatentHierarchyLoss


PARTS = ('triplets', 'overhead', 'memory')
NO_LEFTOVERS = {'MALLOC_MMAP_THRESHOLD_': '65536', 'MALLOC_TRIM_THRESHOLD_': '65536'}
"""Environment in which glibc gives freed memory back."""


def compare(
    name: str,
    plain: Callable[[], object],
    ours: Callable[[], object],
    repeats: int,
    better: str = 'lower',
) -> str:
    """Runs two functions in turns, after one run of each that does not count.

    Args:
        name: What is noted.
        plain: What is compared with.
        ours: What is measured.
        repeats: Pairs of runs.
        better: Of the ratios: ``'lower'`` or ``'higher'``.

    Returns:
        Least seconds of both, and ratios of ours to plain.
    """
    a, b = in_turns(plain, ours, repeats, clock=time.process_time)
    ratios = [y / x for x, y in zip(a, b)]
    note(name, ratios, better=better, seconds=statistics.median(a))
    low, median, high = quartiles(ratios)
    return (
        f'{min(a):.4f} s and {min(b):.4f} s, ratio of the least {min(b) / min(a):.4f}, '
        f'of neighbors {median:.4f} ({low:.4f}-{high:.4f})'
    )


# the triplet loss


def loop_triplets(loss: LatentHierarchyLoss, distances: Tensor, labels: Tensor) -> list[tuple]:
    """The triplets of the specification, point by point; a class is nearer than all others."""
    import torch

    similarity = (-distances).exp() + (labels[:, None] == labels)
    rows, count = similarity.tolist(), len(similarity)
    nearest = []
    for i in range(count):
        others = sorted((j for j in range(count) if j != i), key=lambda j, i=i: -rows[i][j])
        nearest.append([i, *others[: loss.neighbors - 1]])
    triplets = []
    for i in range(count):
        mutual = [j for j in nearest[i] if i in nearest[j]]
        if len(mutual) > loss.min_positives:
            found = [(i, j, k) for j in mutual if j != i for k in range(count) if k not in mutual]
            chosen = torch.randperm(len(found))[: loss.max_triplets].tolist()
            triplets += [found[t] for t in chosen]
    return triplets


def loop_ancestor(loss: LatentHierarchyLoss, distance: Tensor, noisy: bool) -> tuple[Tensor, int]:
    """Weights of the ancestors of one triplet ``(m,)``, straight-through, and the largest."""
    import torch
    import torch.nn.functional as F

    logits = -distance / loss.tau
    if noisy:
        logits = logits - torch.empty_like(logits).exponential_().log()
    soft = logits.softmax(-1)
    index = int(soft.argmax())
    return F.one_hot(torch.tensor(index), len(soft)) - soft.detach() + soft, index


def loop_loss(
    loss: LatentHierarchyLoss,
    points: Tensor,
    ancestors: Tensor,
    labels: Tensor,
    noisy: bool = True,
) -> Tensor:
    """The loss of the specification, triplet by triplet; see :class:`LatentHierarchyLoss`."""
    import torch

    x, y = loss.to_ball(points), loss.to_ball(ancestors)
    rows = loss.pairwise_dist(x, y).unbind(0)
    with torch.no_grad():
        triplets = loop_triplets(loss, loss.pairwise_dist(x, x), labels)
    total, zero = points.new_zeros(()), points.new_zeros(())
    for i, j, k in triplets:
        both = torch.maximum(rows[i], rows[j])
        a, first = loop_ancestor(loss, both, noisy)
        b, second = loop_ancestor(loss, torch.maximum(both, rows[k]), noisy)
        if first == second:
            continue
        for row, sign in ((rows[i], 1), (rows[j], 1), (rows[k], -1)):
            gap = sign * ((row * a).sum() - (row * b).sum())
            total = total + torch.maximum(gap + loss.margin, zero)
    return total / max(len(triplets), 1)


def noiseless(**options) -> LatentHierarchyLoss:
    """The loss with the likeliest ancestors, for comparison."""
    import torch

    from hyper_mm.layers import LatentHierarchyLoss

    class Noiseless(LatentHierarchyLoss):
        def ancestors(
            self, distances: Tensor, noise: Tensor | None = None
        ) -> tuple[Tensor, Tensor]:
            return super().ancestors(distances, torch.zeros_like(distances))

    return Noiseless(**options)


def bench_triplets(args: argparse.Namespace) -> None:
    """Ours beside a loop."""
    import torch
    import torch.nn.functional as F

    from hyper_mm.layers import LatentHierarchyLoss

    loss, exact = LatentHierarchyLoss(), noiseless(max_triplets=10**6)
    points = F.normalize(torch.randn(64, 512), dim=-1).requires_grad_()
    ancestors = (0.05 * torch.randn(20, 512)).requires_grad_()
    labels = torch.randint(16, (64,))
    leaves = (points, ancestors)

    def gradients(value: Tensor) -> tuple[Tensor, ...]:
        return value, *torch.autograd.grad(value, leaves)

    found = gradients(exact(points, ancestors, labels))
    expected = gradients(loop_loss(exact, points, ancestors, labels, noisy=False))
    errors = [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, expected)]
    print(f'triplets: relative error of value and gradients {max(errors):.1e}')
    line = compare(
        'triplets, a loop over ours',
        lambda: gradients(loss(points, ancestors, labels)),
        lambda: gradients(loop_loss(loss, points, ancestors, labels)),
        args.repeats,
        'higher',
    )
    print(f'triplets, ours and a loop: {line}')


# the head on a host


def names(classes: int) -> list[str]:
    """Names of classes."""
    return [f'kind {i} of thing' for i in range(classes)]


def build(args: argparse.Namespace, classes: int, head: bool = False, **options):
    """MaPLe with random weights."""
    import torch

    from hyper_mm.registry import MODELS

    torch.manual_seed(0)
    text = dict(context_length=77, vocab_size=49408, width=512, heads=8, layers=args.text_layers)
    vision = dict(image_size=224, layers=args.image_layers, width=768, patch_size=16)
    depth = min(9, args.text_layers, args.image_layers)
    model = dict(
        type='hyper_mm.PromptedCLIP',
        clip=dict(model=dict(embed_dim=512, quick_gelu=True, vision_cfg=vision, text_cfg=text)),
        prompts=dict(type='MaPLe', depth=depth),
        vocabulary=names(classes),
        **options,
    )
    if head:
        model['head'] = dict(type='hyper_mm.LatHAdapterHead', num_classes=classes, dim=512)
    return MODELS.build(model)


def bench_overhead(args: argparse.Namespace) -> None:
    """The host with the head beside the host."""
    import torch
    from mmpretrain.structures import DataSample

    models = [build(args, 50, head) for head in (False, True)]
    images = torch.randn(4, 3, 224, 224)
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    optimizers = {
        model: torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-3)
        for model in models
    }

    def step(model) -> None:
        optimizers[model].zero_grad()
        model.parse_losses(model.train().loss(images, samples))[0].backward()
        optimizers[model].step()

    line = compare(
        'training step, LatHAdapter over MaPLe',
        *(lambda model=model: step(model) for model in models),
        args.repeats,
    )
    print(f'overhead, training step of 4 images and 50 classes: {line}')
    batch = torch.randn(args.batch, 3, 224, 224)
    for model in models:
        model.eval()
    with torch.no_grad():
        line = compare(
            'inference, LatHAdapter over MaPLe',
            *(lambda model=model: model(batch) for model in models),
            args.repeats,
        )
    print(f'overhead, inference of {args.batch} images: {line}')


# memory


def resident(peak: bool = False) -> float:
    """Resident memory in MiB, or its peak since :func:`forget_peak`."""
    key = 'VmHWM' if peak else 'VmRSS'
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f'{key}:'))


def forget_peak() -> None:
    """Starts a new peak at the present memory."""
    Path('/proc/self/clear_refs').write_text('5')


def bench_memory(args: argparse.Namespace) -> None:
    """Class features in chunks beside all at once."""
    import torch

    cot = torch.randn(args.classes, 512)
    found, peaks = {}, {}
    rivals = {
        'chunks': dict(chunk=args.chunk, checkpoint=True),
        'all at once': dict(chunk=None, checkpoint=False),
    }
    for name, options in rivals.items():
        model = build(args, 2, **options).train()
        model.text_features().sum().backward()  # what the first use loads is no activation
        model.zero_grad()
        model.set_vocabulary(names(args.classes))
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        forget_peak()
        before, start = resident(), time.process_time()
        value = (model.text_features() * cot).sum()
        found[name] = torch.autograd.grad(value, trained.values(), allow_unused=True)
        peaks[name] = resident(peak=True) - before
        seconds = time.process_time() - start
        print(f'memory, {args.classes} classes, {name}: {peaks[name]:.0f} MiB, {seconds:.1f} s')
        del model, trained, value
    errors = [
        ((a - b).abs().max() / b.abs().max()).item()
        for a, b in zip(*found.values())
        if b is not None
    ]
    ratio = peaks['all at once'] / peaks['chunks']
    note('peak of all classes at once over chunks', [ratio], better='higher')
    print(f'memory ratio {ratio:.1f}, relative error of gradients {max(errors):.1e}')


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--parts', nargs='+', choices=PARTS, default=PARTS)
    add('--repeats', type=int, default=6, help='measured pairs of runs')
    add('--batch', type=int, default=16, help='images of a batch in inference')
    add('--classes', type=int, default=1000, help='classes of the memory part')
    add('--chunk', type=int, default=50, help='classes at a time')
    add('--text-layers', type=int, default=12)
    add('--image-layers', type=int, default=12)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if not NO_LEFTOVERS.items() <= os.environ.items():
        print(f'torch {torch.__version__}, 1 thread', flush=True)
    for part in args.parts:
        if part == 'memory' and not NO_LEFTOVERS.items() <= os.environ.items():
            command = [sys.executable, *sys.argv, '--parts', part]  # the last --parts counts
            subprocess.run(command, env={**os.environ, **NO_LEFTOVERS}, check=True)
        else:
            globals()[f'bench_{part}'](args)


if __name__ == '__main__':
    main()
