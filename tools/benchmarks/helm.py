"""What hyperbolic language models cost beside their Euclidean baselines.

    python tools/benchmarks/helm.py
    python tools/benchmarks/helm.py --only compile --length 256 --batch 4
    python tools/benchmarks/helm.py --models mice --depth 6 --vocab-size 128256
    python tools/benchmarks/helm.py --device cuda --dtype bfloat16 --batch 4 --depth 6

HELM-D beside a LLaMA-like decoder, HELM-MiCE beside a DeepSeek-like one: the models of
`configs/*_1*m.py`, with depth and vocabulary reduced alike on both sides. Random weights and
tokens.

A training step is forward and backward, without an optimizer. The two take turns in one process;
`ratio` is that of the smallest times, then come median and quartiles of the ratios of neighboring
runs. Processor time says on one thread of a busy machine what wall time says on an idle one. Memory
is the highest during a step above what the model and its gradients hold, in a process of its own
(on accelerators: what PyTorch allocates). Decoding compares a token with a cache and without, just
below the given length; with a cache it is the mean of 16 tokens in a row, as generation is.
Generation is `model.stream` of 16 tokens behind as many as make up the length: tokens a second of
both models, in turns, the first token (that of the prompt) not counted.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from timing import note, peak_rss, quartiles

if TYPE_CHECKING:
    import torch
    from torch import nn

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
PAIRS = {
    'dense': {'HELM-D': 'helm/helm-d_115m.py', 'LLaMA-like': 'helm/llama_115m.py'},
    'mice': {'HELM-MiCE': 'helm/helm-mice_120m.py', 'DeepSeek-like': 'helm/deepseek_120m.py'},
}
PARTS = ('step', 'memory', 'decode', 'generate')
OTHER_PARTS = ('compile',)
"""Parts that `--only` runs: a compiler takes a minute for each model."""
RUN = 16
"""Tokens decoded in a row."""


def build(config: str, args: argparse.Namespace) -> nn.Module:
    """The model of a config, with depth and vocabulary of the command line."""
    from mmengine.config import Config

    from hyper_mm.registry import MODELS

    cfg = Config.fromfile(CONFIGS / config).model
    cfg.decoder.update(depth=args.depth, vocab_size=args.vocab_size)
    return MODELS.build(cfg).to(args.device)


def stepper(model: nn.Module, args: argparse.Namespace) -> Callable[[], None]:
    """Function that runs a training step."""
    import torch

    ids = torch.randint(args.vocab_size, (args.batch, args.length), device=args.device)
    half = args.dtype == 'bfloat16'

    def step() -> None:
        with torch.autocast(args.device, torch.bfloat16, enabled=half):
            losses = model.loss(ids)
        sum(loss for name, loss in losses.items() if 'loss' in name).backward()
        model.zero_grad()
        if args.device != 'cpu':
            torch.cuda.synchronize()

    return step


def compare(runs: list[Callable[[], object]], repeats: int) -> list[list[tuple[float, float]]]:
    """Runs two functions in turns: wall and processor seconds of each."""
    taken = [[], []]
    for turn in range(repeats + 1):
        for i in (0, 1) if turn % 2 else (1, 0):
            wall, processor = time.perf_counter(), time.process_time()
            runs[i]()
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            if turn:
                taken[i].append((wall, processor))
    return taken


def show_steps(
    names: list[str], taken: list[list[tuple[float, float]]], of: str = 'training step'
) -> None:
    """Prints times of a step and their ratios."""
    for kind, name in enumerate(('wall', 'processor')):
        ours, baseline = ([run[kind] for run in runs] for runs in taken)
        ratios = [a / b for a, b in zip(ours, baseline)]
        low, median, high = quartiles(ratios)
        what = f'{of}, {names[0]} over {names[1]}, {name} time'
        note(what, ratios, seconds=statistics.median(baseline))
        print(
            f'{of}, {name} time: {names[0]} {min(ours):.3f} s, {names[1]} '
            f'{min(baseline):.3f} s, ratio {min(ours) / min(baseline):.3f}, median {median:.3f} '
            f'({low:.3f}-{high:.3f})',
            flush=True,
        )


def peak(config: str, args: argparse.Namespace) -> float:
    """Highest memory of training steps above the model's own, in MB."""
    import torch

    model = build(config, args)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    step = stepper(model, args)
    with torch.no_grad():
        model.loss(torch.zeros(1, 8, dtype=torch.long, device=args.device))  # libraries are loaded
    if args.device != 'cpu':
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    Path('/proc/self/clear_refs').write_text('5')
    before = peak_rss()
    step()
    return (peak_rss() - before) / 1e6


def show_decoding(name: str, model: nn.Module, args: argparse.Namespace) -> None:
    """Prints the time of a token at a length, with a cache and without, and the cache's size."""
    import torch

    decoder, ids = model.decoder.eval(), torch.randint(args.vocab_size, (1, args.decode))
    ids = ids.to(args.device)
    first, caches = ids[:, :-RUN], decoder.new_caches()

    def wait(features: torch.Tensor) -> None:
        model.logits(features[:, -1]).argmax(-1).cpu()

    def run() -> None:
        for cache in caches:
            cache.length = first.shape[1]
        for token in ids[:, -RUN:].split(1, 1):
            wait(decoder(token, caches=caches))

    with torch.no_grad():
        decoder(first, caches=caches)
        cached, whole = compare([run, lambda: wait(decoder(ids))], args.repeats)
    numbers = caches[0].numbers_per_token
    cached, whole = (min(run[1] for run in runs) for runs in (cached, whole))
    cached /= RUN
    note(
        f'{name}, token {args.decode}, all tokens again over cached',
        [whole / cached],
        better='higher',
        seconds=cached,
    )
    print(
        f'{name}, token {args.decode}: cached {cached * 1e3:.1f} ms, all tokens again '
        f'{whole * 1e3:.1f} ms, {whole / cached:.1f} times faster; {numbers} numbers a token and '
        f'layer, {4 * numbers} bytes in float32',
        flush=True,
    )


def show_generation(names: list[str], models: list[nn.Module], args: argparse.Namespace) -> None:
    """Prints tokens a second of both models in turns, and their ratios."""
    import torch

    shape = args.decode_batch, args.decode - RUN - 1
    prompt = torch.randint(args.vocab_size, shape, device=args.device)
    taken: list[list[float]] = [[], []]
    for turn in range(args.repeats + 1):
        for i in (0, 1) if turn % 2 else (1, 0):
            stream = models[i].stream(prompt, RUN + 1)
            next(stream)
            start = time.process_time() if args.device == 'cpu' else time.perf_counter()
            for token in stream:
                token.cpu()
            now = time.process_time() if args.device == 'cpu' else time.perf_counter()
            if turn:
                taken[i].append(RUN * len(prompt) / (now - start))
    ratios = [a / b for a, b in zip(*taken)]
    low, median, high = quartiles(ratios)
    what = f'generation to token {args.decode}, tokens a second, {names[0]} over {names[1]}'
    note(what, ratios, better='higher')
    ours, baseline = map(max, taken)
    print(
        f'generation to token {args.decode}, batch {args.decode_batch}: {names[0]} {ours:.0f} '
        f'tokens/s, {names[1]} {baseline:.0f}, ratio {ours / baseline:.3f}, median {median:.3f} '
        f'({low:.3f}-{high:.3f})',
        flush=True,
    )


def show_compiled(name: str, model: nn.Module, args: argparse.Namespace) -> None:
    """Prints the time of a block, forward and backward, compiled and not."""
    import torch

    given: list[tuple] = []
    block = model.decoder.blocks[0]
    handle = block.register_forward_pre_hook(
        lambda _, inputs, options: given.append((inputs, options)), with_kwargs=True
    )
    with torch.no_grad():
        model.loss(torch.randint(args.vocab_size, (args.batch, args.length), device=args.device))
    handle.remove()
    (x, *inputs), options = given[0]
    x = x.detach().requires_grad_()

    def runner(function: Callable) -> Callable[[], None]:
        def run() -> None:
            found = function(x, *inputs, **options)
            (found[0] if isinstance(found, tuple) else found).sum().backward()

        return run

    compiled = runner(torch.compile(block, fullgraph=True))
    compiled()
    taken = compare([compiled, runner(block)], args.repeats)
    show_steps([f'a block of {name}, compiled', 'eager'], taken, 'forward and backward')


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--models', nargs='+', choices=PAIRS, default=list(PAIRS))
    parser.add_argument('--depth', type=int, default=2, help='blocks of all models')
    parser.add_argument('--vocab-size', type=int, default=2000)
    parser.add_argument('--length', type=int, default=1024, help='tokens of a training sequence')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--decode', type=int, default=512, help='tokens while decoding')
    parser.add_argument('--repeats', type=int, default=11, help='measured pairs of runs')
    parser.add_argument('--threads', type=int, default=1, help='threads of torch')
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument('--dtype', default='float32', choices=('float32', 'bfloat16'))
    parser.add_argument('--decode-batch', type=int, default=1, help='sequences of the generation')
    parser.add_argument('--only', nargs='+', choices=PARTS + OTHER_PARTS)
    parser.add_argument('--peak', help=argparse.SUPPRESS)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.peak:
        print(peak(args.peak, args))
        return
    print(
        f'torch {torch.__version__}, {args.device}, {args.threads} threads, {args.dtype}, depth '
        f'{args.depth}, vocabulary {args.vocab_size}, batch {args.batch} x {args.length}'
    )
    parts = args.only or PARTS
    for key in args.models:
        names, models = list(PAIRS[key]), [build(c, args) for c in PAIRS[key].values()]
        counts = [sum(p.numel() for p in model.parameters()) / 1e6 for model in models]
        print(f'{key}: {names[0]} {counts[0]:.2f} M, {names[1]} {counts[1]:.2f} M parameters')
        if 'step' in parts:
            show_steps(names, compare([stepper(m, args) for m in models], args.repeats))
        if 'memory' in parts:
            command = [sys.executable, __file__, *sys.argv[1:], '--peak']
            runs = (
                subprocess.run([*command, c], capture_output=True, text=True, check=True)
                for c in PAIRS[key].values()
            )
            ours, baseline = (float(run.stdout.split()[-1]) for run in runs)
            note(f'training memory, {names[0]} over {names[1]}', [ours / baseline])
            print(
                f'training memory: {names[0]} {ours:.0f} MB, {names[1]} {baseline:.0f} MB, ratio '
                f'{ours / baseline:.3f}',
                flush=True,
            )
        if 'decode' in parts:
            for name, model in zip(names, models):
                show_decoding(name, model, args)
        if 'generate' in parts:
            show_generation(names, models, args)
        if 'compile' in parts:
            for name, model in zip(names, models):
                show_compiled(name, model, args)


if __name__ == '__main__':
    main()
