"""What boundary contrast, its bands, first-order episodes and frequency mixing cost.

    python tools/benchmarks/metaseg.py
    python tools/benchmarks/metaseg.py --only bands mix --threads 1

Each beside a peer that takes turns with it in one process: the loss and its gradient beside a
Python double loop over the pairs, the bands beside scipy's binary morphology, a FOMAML step beside
its forward and backward passes alone, the low-rank mix beside a full FFT. Each line has the median
of the ratios of neighboring runs, peer over ours, and its quartiles; for FOMAML ours over the
peer. Memory is what a step adds to the peak of a fresh process. Random data, float32. Adaptation
(20 steps on 5 images of 256 x 256, given the rate) has no peer: seconds, and the memory of a step
on 2 and on 18 images of 1024 x 1024. `episodes` trains a config on its data (data/nuclei, or where
HYPER_MM_DATA says) beside the same steps on one batch in memory, and `orders` a step of MAML beside
one of FOMAML, with the memory of each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from timing import peak_rss, ratio

if TYPE_CHECKING:
    from torch import Tensor

    from hyper_mm.models import MetaLearner


SECTIONS = ('contrast', 'bands', 'fomaml', 'orders', 'episodes', 'mix', 'adapt')
CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'metaseg'
ORDERS = ('fomaml', 'maml')
EPISODIC = ('fomaml_unet-lite0_nuclei',)
"""Configs of metaseg whose loaders are timed."""
ADAPTED = ('unet_nuclei', 'unet-lite0_nuclei')
"""Configs of metaseg that are adapted."""
TAU, CHANNELS = 0.05, 32
SIZES = (64, 512)


def double_loop(embeddings: Tensor, labels: Tensor) -> Tensor:
    """The loss with both denominators' terms, pair by pair; negatives are summed once a row."""
    import torch
    from torch.nn import functional as F

    h = F.normalize(embeddings, dim=-1)
    rows = [(h[m], (h[labels != labels[m]] @ h[m] / TAU).logsumexp(0)) for m in range(len(h))]
    y, losses = labels.tolist(), []
    for m, (a, against) in enumerate(rows):
        for p, (b, _) in enumerate(rows):
            if p != m and y[p] == y[m]:
                score = a @ b / TAU
                losses.append(torch.logaddexp(score, against) - score)
    return torch.stack(losses).mean()


def contrast_step(size: int, loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], Tensor]:
    """Loss and gradient of random embeddings; returns the gradient."""
    import torch

    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(size, CHANNELS, generator=generator).requires_grad_()
    labels = (torch.arange(size) < size // 2).long()
    return lambda: torch.autograd.grad(loss(embeddings, labels), embeddings)[0]


def measure_memory(size: int) -> None:
    """Prints the bytes that a step adds to the peak of this (fresh) process."""
    from hyper_mm.layers.meta.boundary_contrast import boundary_info_nce

    contrast_step(8, boundary_info_nce)()
    step = contrast_step(size, boundary_info_nce)
    before = peak_rss()
    step()
    print(peak_rss() - before)


def bench_contrast(repeats: int) -> None:
    """Loss and gradient at two numbers of embeddings, and the memory."""
    from hyper_mm.layers.meta.boundary_contrast import boundary_info_nce

    for size in SIZES:
        ours, peer = (contrast_step(size, f) for f in (boundary_info_nce, double_loop))
        error = (ours() - peer()).norm() / peer().norm() if size == SIZES[0] else None
        show(
            f'contrast, 2K = {size}', ours, peer, repeats if size == SIZES[0] else 1, 'double loop'
        )
        if error is not None:
            print(f'    relative difference of the gradients {error.item():.1e}')
    for size in (SIZES[-1], 4 * SIZES[-1]):
        command = [sys.executable, __file__, '--memory', str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f'    memory at 2K = {size}: {int(done.stdout) / 2**20:.0f} MiB')


def discs(count: int, size: int) -> Tensor:
    """Random masks of overlapping discs ``(count, size, size)``."""
    import torch

    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(*[torch.arange(size)] * 2, indexing='ij')
    masks = torch.zeros(count, size, size, dtype=torch.bool)
    for mask in masks:
        for a, b, r in (torch.rand(6, 3, generator=generator) * size).tolist():
            mask |= (y - a) ** 2 + (x - b) ** 2 < (r / 5) ** 2
    return masks


def scipy_bands(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bands by scipy, image by image."""
    from scipy import ndimage

    cross = ndimage.generate_binary_structure(2, 1)
    boundary = [m & ~ndimage.binary_erosion(m, cross) for m in masks]
    background = [ndimage.binary_dilation(m, cross, iterations=5) & ~m for m in masks]
    return np.stack(boundary), np.stack(background)


def bench_bands(repeats: int) -> None:
    """Bands of eight masks of 384 x 384."""
    from hyper_mm.layers.meta.boundary_contrast import boundary_bands

    masks = discs(8, 384)
    array = masks.numpy()
    for band, other in zip(boundary_bands(masks), scipy_bands(array)):
        assert np.array_equal(band.numpy(), other)
    show(
        'bands, 8 x 384 x 384',
        lambda: boundary_bands(masks),
        lambda: scipy_bands(array),
        repeats,
        'scipy',
    )


def small_learner(size: int = 128, **options: object) -> tuple[MetaLearner, dict]:
    """A meta-learned small U-Net, and an episode of 4 + 4 random square images."""
    import torch
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    from hyper_mm.registry import MODELS

    init_default_scope('mmseg')
    cfg = Config.fromfile(CONFIGS / 'unet_nuclei.py')
    cfg.segmentor.data_preprocessor = cfg.data_preprocessor
    config = dict(type='hyper_mm.MetaLearner', model=cfg.segmentor, **options)
    meta = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), (size, size))

    def batch() -> dict:
        labels = [PixelData(data=torch.randint(2, (1, size, size))) for _ in range(4)]
        samples = [SegDataSample(gt_sem_seg=label, metainfo=meta) for label in labels]
        return dict(inputs=torch.randn(4, 3, size, size), data_samples=samples)

    return MODELS.build(config).train(), dict(support=batch(), query=batch())


def backward(model: MetaLearner, losses: dict) -> None:
    """The gradients of losses, which are not kept."""
    model.parse_losses(losses)[0].backward()
    model.zero_grad()


def bench_fomaml(repeats: int) -> None:
    """A FOMAML step of a small U-Net, 4 + 4 images of 128 x 128, one inner step."""
    learner, episode = small_learner()

    def step() -> None:
        backward(learner, learner([episode], mode='loss'))

    def passes() -> None:
        for part in episode.values():
            backward(learner, learner.model(**part, mode='loss'))

    show('FOMAML step over its passes', passes, step, repeats, 'the passes alone')


def bench_orders(repeats: int) -> None:
    """A step of second order beside one of first: time at 128 pixels, memory at 256."""
    first, second = (
        lambda model=model, episode=episode: backward(model, model([episode], mode='loss'))
        for model, episode in (small_learner(algorithm=name) for name in ORDERS)
    )
    show('MAML step over one of FOMAML', first, second, repeats, 'of second order')
    for name in ORDERS:
        command = [sys.executable, __file__, '--order-memory', name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f'    memory of a step, {name}: {int(done.stdout.split()[-1]) / 2**20:.0f} MiB')


def measure_order_memory(name: str) -> None:
    """Prints the bytes that a step adds to the peak of this (fresh) process."""
    for size in (32, 256):
        learner, episode = small_learner(size, algorithm=name)
        before = peak_rss()
        backward(learner, learner([episode], mode='loss'))
    print(peak_rss() - before)


def bench_episodes(repeats: int, steps: int = 8) -> None:
    """Steps with a config's own loader beside as many with a batch that is there."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmengine.runner import Runner

    from hyper_mm.registry import MODELS

    for name in EPISODIC:
        cfg = Config.fromfile(CONFIGS / f'{name}.py')
        init_default_scope(cfg.default_scope)
        if cfg.get('data_preprocessor') is not None:
            cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
        model = MODELS.build(cfg.model).train()
        batches = iter(Runner.build_dataloader(cfg.train_dataloader, seed=0))
        kept = next(batches)

        def step(batch: dict, model: MetaLearner = model) -> None:
            backward(model, model(**model.data_preprocessor(batch, True), mode='loss'))

        def loaded(batches=batches, step=step) -> None:
            for _ in range(steps):
                step(next(batches))

        def alone(kept=kept, step=step) -> None:
            for _ in range(steps):
                step(kept)

        show(f'{steps} steps with a loader, {name}', loaded, alone, repeats, 'without one')


def full_fft(x: Tensor, amplitude: Tensor, lam: float) -> Tensor:
    """The mix by the spectrum of the whole image; amplitudes are those of an unnormalized FFT."""
    import torch

    half, (height, width) = amplitude.shape[-1] // 2, x.shape[-2:]
    spectrum = torch.fft.fftshift(torch.fft.fft2(x), (-2, -1))
    size, phase = spectrum.abs(), spectrum.angle()
    rows = slice(height // 2 - half, height // 2 + half + 1)
    columns = slice(width // 2 - half, width // 2 + half + 1)
    size[..., rows, columns] = (1 - lam) * size[..., rows, columns] + lam * amplitude
    mixed = torch.fft.ifftshift(torch.polar(size, phase), (-2, -1))
    return torch.fft.ifft2(mixed).real


def bench_mix(repeats: int) -> None:
    """An image of 384 x 384 with three channels, half-size 3."""
    import torch

    from hyper_mm.ops.frequency import amplitude_mix, low_amplitude

    generator = torch.Generator().manual_seed(0)
    x, other = torch.rand(2, 3, 384, 384, generator=generator) * 255
    amplitude = low_amplitude(other, 3)
    scaled = (amplitude * x[0].numel()).float()
    error = (amplitude_mix(x, amplitude, 0.5) - full_fft(x, scaled, 0.5)).abs().max()
    show(
        'mix, 3 x 384 x 384',
        lambda: amplitude_mix(x, amplitude, 0.5),
        lambda: full_fft(x, scaled, 0.5),
        repeats,
        'full FFT',
    )
    print(f'    largest difference {error.item():.1e} of 255')


def support(count: int, size: int) -> list[dict]:
    """Random packed images with labels."""
    import torch
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    meta = dict(img_shape=(size, size), ori_shape=(size, size), pad_shape=(size, size))
    items = []
    for _ in range(count):
        labels = PixelData(data=torch.randint(2, (1, size, size), dtype=torch.uint8))
        image = torch.randint(256, (3, size, size), dtype=torch.uint8)
        items.append(
            dict(inputs=image, data_samples=SegDataSample(gt_sem_seg=labels, metainfo=meta))
        )
    return items


def adapt(config: str, items: list[dict], steps: int) -> None:
    """Takes the steps of tools/adapt.py with a model of random weights."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from hyper_mm.engine.adaptation.steps import fit
    from hyper_mm.engine.adaptation.views import Views
    from hyper_mm.registry import MODELS

    init_default_scope('mmseg')
    cfg = Config.fromfile(CONFIGS / f'{config}.py', format_python_code=False)
    if cfg.get('data_preprocessor') is not None:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    learner = MODELS.build(dict(type='hyper_mm.MetaLearner', model=cfg.model))
    fit(learner, Views(items, learner.model.data_preprocessor), steps, 0.01)


def bench_adapt(repeats: int) -> None:
    """Seconds of an adaptation, and the memory of a step."""
    import time

    for config in ADAPTED:
        items = support(5, 256)
        adapt(config, items, 1)
        begin = time.perf_counter()
        adapt(config, items, 20)
        print(f'adapt, {config}: {time.perf_counter() - begin:.1f} s')
        for count in (2, 18):
            command = [sys.executable, __file__, '--adapt-memory', config, str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            mib = int(done.stdout.split()[-1]) / 2**20
            print(f'    memory of a step on {count} images of 1024 x 1024: {mib:.0f} MiB')
            sys.stdout.flush()


def measure_adapt_memory(config: str, count: int) -> None:
    """Prints the bytes that a step adds to the peak of this (fresh) process, images left out."""
    items = support(count, 1024)
    adapt(config, support(1, 64), 1)
    before = peak_rss()
    adapt(config, items, 1)
    print(peak_rss() - before)


def show(name: str, ours: Callable, peer: Callable, repeats: int, what: str) -> None:
    """Prints one comparison."""
    seconds, (low, median, high) = ratio(
        ours,
        peer,
        max(repeats, 1),
        warm_up=min(repeats, 1),
        name=name if ' over ' in name else f'{name}, {what} over ours',
        better='lower' if ' over ' in name else 'higher',
    )
    print(f'{name}: {1000 * seconds:.2f} ms, {what} {median:.2f} ({low:.2f}-{high:.2f}) times')
    sys.stdout.flush()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--only', nargs='+', choices=SECTIONS, default=SECTIONS)
    parser.add_argument('--threads', type=int, default=2, help='threads of torch')
    parser.add_argument('--repeats', type=int, default=11, help='measured pairs of runs')
    parser.add_argument('--memory', type=int, help=argparse.SUPPRESS)
    parser.add_argument('--adapt-memory', nargs=2, help=argparse.SUPPRESS)
    parser.add_argument('--order-memory', choices=ORDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.memory:
        measure_memory(args.memory)
        return
    if args.adapt_memory:
        measure_adapt_memory(args.adapt_memory[0], int(args.adapt_memory[1]))
        return
    if args.order_memory:
        measure_order_memory(args.order_memory)
        return
    print(f'torch {torch.__version__}, {args.threads} threads')
    for section in args.only:
        globals()[f'bench_{section}'](args.repeats)


if __name__ == '__main__':
    main()
