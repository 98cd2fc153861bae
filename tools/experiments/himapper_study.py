"""Hi-Mapper from pretrained weights, beside plain models and plain blocks of equal size, as tables.

    python tools/experiments/himapper_study.py --sets camvid nuclei --jobs 2 --out OUT.md
    python tools/experiments/himapper_study.py --sets camvid --arms plain recommended --seeds 0 1
    python tools/experiments/himapper_study.py --sets coco133 --rates 1 4 16 --out OUT.md

EfficientNet-Lite0 with its ImageNet weights, the backbone trained: the configs
configs/efficientnet_lite/efficientnet-lite0_*.py (plain) and
configs/himapper/himapper_efficientnet-lite0_*.py (recommended), shortened to --iterations. Arms of
one seed begin with the same weights of head and backbone and see the same batches, so differences
are paired by seed. With --rates each arm has the best of these multiples of the config's learning
rate, chosen with a seed of its own on one half of the validation images; the table is of the other
half. Finished runs are kept: the command resumes where it stopped, --minutes stops it, and the
tables are made of the seeds that all arms of a set have.
Marks in the file of --out: <!-- himapper_study --> (last folder of --work-dir); see tables.py.
"""

from __future__ import annotations

import argparse
import importlib
import math
import statistics
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from tables import command, markdown, standard_error, versions, write_table

CHANNELS = [24, 40, 112, 320]
LIBRARIES = ['mmpretrain.models', 'hyper_mm.models', 'hyper_mm.datasets', 'hyper_mm.visualization']
"""What is loaded once for all runs: it takes longer than a short training."""
APIS = {'bccd': 'mmdet.apis', 'tiny-imagenet': 'mmpretrain.apis'}
"""What a set needs beside them; the others mmseg.apis."""


class Run(NamedTuple):
    """A training of the study.

    Attributes:
        set: Name of the data set.
        arm: Name of the arm.
        seed: Seed of it.
        rate: Multiple of the config's learning rate.
        half: Which images are validated: every second from 0 or from 1 on; None for all.
    """

    set: str
    arm: str
    seed: int
    rate: float = 1.0
    half: int | None = None


class Set(NamedTuple):
    """A data set of the study.

    Attributes:
        metric: Its metric, as the evaluator names it.
        iterations: Steps of a run.
        batch: Images a step.
        options: Changes of its configs.
    """

    metric: str
    iterations: int
    batch: int = 8
    options: dict[str, Any] = {}


SETS = {
    'camvid': Set('mIoU', 50, options={'crop': (96, 96)}),
    'nuclei': Set('mDice', 50, options={'crop': (96, 96)}),
    'coco133': Set('mIoU', 50, options={'crop': (96, 96)}),
    'tiny-imagenet': Set('accuracy/top1', 60, 16, options={'scale': 96}),
    'bccd': Set('coco/bbox_mAP_50', 60, 4),
}
NO_LOSSES = dict(contrastive=0.0, kl=0.0, balance=0.0)
ARMS: dict[str, dict[str, Any] | None] = {
    'plain': None,
    'plain blocks': None,
    'paper': dict(recipe='paper'),
    'recommended': {},
    'no losses': dict(loss=NO_LOSSES),
    'euclidean': dict(lift=dict(manifold='euclidean')),
    'top-down': dict(tree=dict(bottom_up=False)),
    'same image alone': dict(loss=dict(across_images=False)),
    'free radii': dict(lift=dict(radii='free')),
    'losses stop': dict(loss_grad=0.0),
    'token fusion': dict(fusion='token'),
    'node fusion': dict(fusion='nodes'),
}
"""Arms: what each changes in the neck of the recommended config."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--sets', nargs='+', choices=SETS, default=list(SETS))
    default = ['plain', 'plain blocks', 'recommended']
    add('--arms', nargs='+', choices=ARMS, default=default)
    add('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    add('--rates', type=float, nargs='+', help='multiples of the learning rate to choose from')
    add('--tune-seed', type=int, default=100, help='seed of the runs that choose it')
    add('--iterations', type=int, help='steps of a run (default: those of the set)')
    add('--minutes', type=float, default=math.inf, help='begin no run after so many minutes')
    add('--work-dir', type=Path, default=Path('work_dirs/himapper_study'))
    add('--out', type=Path, help='markdown file, written between its marks')
    add('--jobs', type=int, default=1, help='runs at a time')
    add('--threads', type=int, default=1, help='threads of a run')
    args = parser.parse_args(arguments)
    for name in ('jobs', 'threads', 'minutes'):
        if getattr(args, name) <= 0:
            parser.error(f'--{name} must be positive, got {getattr(args, name)}')
    if args.rates and min(args.rates) <= 0:
        parser.error(f'--rates must be positive, got {min(args.rates)}')
    if args.tune_seed in args.seeds:
        parser.error(f'--tune-seed must not be one of --seeds, got {args.tune_seed}')
    if args.iterations is not None and args.iterations < 2:
        parser.error(f'--iterations must be at least 2, got {args.iterations}')
    return args


def build_config(run: Run, args: argparse.Namespace):
    """Config of a run."""
    from mmengine.config import Config

    name, arm, seed, rate, half = run
    plain = ARMS[arm] is None
    folder = 'efficientnet_lite/' if plain else 'himapper/himapper_'
    cfg = Config.fromfile(f'configs/{folder}efficientnet-lite0_{name}.py')
    if arm == 'plain blocks':
        own = Config.fromfile(f'configs/himapper/himapper_efficientnet-lite0_{name}.py')
        cfg.model.neck = plain_blocks(own.model.neck)
    elif not plain:
        cfg.merge_from_dict(dict(model=dict(neck=ARMS[arm])))
    shorten(cfg, SETS[name], args.iterations or SETS[name].iterations)
    cfg.randomness = dict(seed=seed)
    cfg.optim_wrapper.optimizer.lr *= rate
    if half is not None:
        validate_half(cfg, name, half)
    cfg.launcher = 'none'
    cfg.work_dir = str(run_folder(run, args))
    return cfg


@lru_cache
def validation_images(name: str) -> int:
    """Number of validation images of a set."""
    from mmengine.config import Config
    from mmengine.registry import DATASETS, init_default_scope

    cfg = Config.fromfile(f'configs/efficientnet_lite/efficientnet-lite0_{name}.py')
    for module in libraries([name]):
        importlib.import_module(module)
    init_default_scope(cfg.default_scope)
    return len(DATASETS.build(cfg.val_dataloader.dataset))


def validate_half(cfg, name: str, half: int) -> None:
    """Validates every second image, from the first or the second on."""
    cfg.val_dataloader.dataset.indices = list(range(half, validation_images(name), 2))
    if cfg.val_evaluator.get('type') == 'CocoMetric':
        # of the annotations of these images, not of all in the file
        cfg.val_evaluator.pop('ann_file', None)


def run_folder(run: Run, args: argparse.Namespace) -> Path:
    """Folder of a run."""
    from hyper_mm.engine.records import safe_name

    name = f'seed{run.seed}'
    if run.half is not None:
        name += f'_rate{run.rate:g}_half{run.half}'
    return args.work_dir / run.set / safe_name(run.arm) / name


def plain_blocks(neck: dict) -> dict:
    """Config of plain blocks in the place of a Hi-Mapper, with as many parameters."""
    from mmengine.registry import MODELS

    pool = 'Pooling' in neck['type']
    found = dict(
        type='hyper_mm.PlainBlocks',
        in_channels=[neck['in_channels']] if pool else neck['in_channels'],
        level=-1 if pool else neck['level'],
        num_blocks=len(MODELS.build(neck).mapper.encoder.blocks) if pool else 1,
        pool=pool,
        neck=neck.get('neck'),
    )

    def size(config: dict) -> int:
        return sum(p.numel() for p in MODELS.build({**config, 'neck': None}).parameters())

    bare = {key: value for key, value in neck.items() if key != 'neck'}
    wanted = sum(p.numel() for p in MODELS.build(bare).parameters())
    one, two = (size({**found, 'hidden': h}) for h in (1, 2))
    return {**found, 'hidden': max(1, round(1 + (wanted - one) / (two - one)))}


def shorten(cfg, data: Set, steps: int) -> None:
    """Shortens a config to some steps by iteration, without worker processes."""
    warmup = max(1, steps // 10)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=steps, val_interval=steps)
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
        dict(type='PolyLR', eta_min=0.0, power=1.0, begin=warmup, end=steps, by_epoch=False),
    ]
    for part in ('train', 'val', 'test'):
        loader = cfg[f'{part}_dataloader']
        loader.num_workers, loader.persistent_workers = 0, False
        loader.pop('prefetch_factor', None)
    cfg.train_dataloader.batch_size = data.batch
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    for step in cfg.train_dataloader.dataset.pipeline:
        if step['type'] == 'RandomCrop' and 'crop' in data.options:
            step['crop_size'] = data.options['crop']
            cfg.model.data_preprocessor.size = data.options['crop']
        if step['type'] == 'RandomResizedCrop' and 'scale' in data.options:
            step['scale'] = data.options['scale']
    for part in ('val', 'test'):
        for step in cfg[f'{part}_dataloader'].dataset.pipeline:
            if step['type'] == 'Resize' and 'scale' in data.options:
                step['scale'] = (data.options['scale'],) * 2
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=10, log_metric_by_epoch=False)
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', interval=steps, by_epoch=False, save_optimizer=False
    )
    cfg.log_processor = dict(by_epoch=False)


def train_and_test(run: Run, args: argparse.Namespace) -> dict:
    """Trains and validates in this process.

    Returns:
        The ``metric`` in percent, ``parameters`` of the neck, seconds, and of arms with Hi-Mapper
        ``hierarchy``: what :func:`hyper_mm.visualization.collapse_indicators` finds in eight
        validation images, the mean radii and the last values of the log.
    """
    import torch

    from hyper_mm.engine.launch import build_runner

    name, arm = run[:2]
    runner = build_runner(build_config(run, args))
    start = time.time()
    runner.train()
    seconds = time.time() - start
    metric = runner.message_hub.get_scalar(f'val/{SETS[name].metric}').current()
    neck = getattr(runner.model, 'neck', None)
    inner = getattr(neck, 'neck', neck)
    size = sum(p.numel() for p in neck.parameters()) if neck is not None else 0
    size -= sum(p.numel() for p in inner.parameters()) if inner not in (None, neck) else 0
    result = dict(
        metric=float(metric) * (100 if SETS[name].metric.startswith('coco/') else 1),
        parameters=size,
        seconds=seconds,
    )
    if ARMS[arm] is not None:
        from hyper_mm.visualization import read_hierarchies

        torch.manual_seed(0)
        dataset = runner.val_dataloader.dataset
        picks = [dataset[i] for i in range(0, len(dataset), max(1, len(dataset) // 8))][:8]
        batch = {key: [pick[key] for pick in picks] for key in ('inputs', 'data_samples')}
        _, found = read_hierarchies(runner.model, batch)
        logged = runner.message_hub.log_scalars
        own = {k.split('/')[-1]: float(v.current()) for k, v in logged.items() if 'hi_mapper/' in k}
        result['hierarchy'] = {**own, **found}
    return result


def result_of(run: Run, args: argparse.Namespace) -> dict:
    """Result of a run, which is kept in ``result.json``: made in a process of its own, or read."""
    from hyper_mm.engine.records import claim, key_of, load_result, save_result
    from hyper_mm.engine.runs import call

    folder = run_folder(run, args)
    file, key = folder / 'result.json', key_of(build_config(run, args))
    result = load_result(file, key)
    if result is None:
        with claim(folder, key) as lock:
            result = load_result(file, key)
            if result is None:
                how = dict(threads=args.threads, preload=libraries(args.sets), lock=lock)
                name = ', '.join(map(str, run[:4]))
                done = call(train_and_test, run, args, log=folder / 'run.log', name=name, **how)
                result = done.value
                save_result(file, key, result)
    return result


def libraries(sets: list[str]) -> list[str]:
    """Modules to load once for all runs on some sets."""
    return [*LIBRARIES, *sorted({APIS.get(name, 'mmseg.apis') for name in sets})]


def report(args: argparse.Namespace, results: dict[Run, dict]) -> str:
    """The tables: a row an arm, differences paired by seed, the rates, and the diagnostics."""
    parts = []
    for name in args.sets:
        rates = chosen_rates(name, args, results)
        runs = {(a, s): run_of(name, a, s, rates[a], args) for a in args.arms for s in args.seeds}
        arms = [arm for arm in args.arms if any(runs[arm, s] in results for s in args.seeds)]
        seeds = [s for s in args.seeds if all(runs[arm, s] in results for arm in arms)]
        if not arms or not seeds:
            continue
        found = {arm: [results[runs[arm, s]] for s in seeds] for arm in arms}
        value = {arm: [result['metric'] for result in found[arm]] for arm in arms}
        bases = [base for base in ('plain', 'plain blocks') if base in arms]
        head = ['arm', *(f'seed {s}' for s in seeds), SETS[name].metric]
        rows = [[*head, *(f'against {base}' for base in bases), 'parameters', 's']]
        for arm in arms:
            gains = [
                standard_error([a - b for a, b in zip(value[arm], value[base])])
                if arm != base
                else ''
                for base in bases
            ]
            cost = [
                f'{found[arm][0]["parameters"]:,}',
                f'{statistics.median(r["seconds"] for r in found[arm]):.0f}',
            ]
            own = [f'{v:.2f}' for v in value[arm]]
            rows.append([arm, *own, standard_error(value[arm]), *gains, *cost])
        steps = args.iterations or SETS[name].iterations
        parts.append(f'## {name}, {steps} steps of {SETS[name].batch} images\n\n{markdown(rows)}')
        parts += tuning(name, arms, rates, args, results) + diagnostics(found)
    return '\n\n'.join(parts)


def chosen_rates(name: str, args: argparse.Namespace, results: dict[Run, dict]) -> dict[str, float]:
    """The best rate of each arm on the half that is not reported; 1 where none was tried."""
    found = {}
    for arm in args.arms:
        tried = {
            run.rate: results[run]['metric'] for run in tuned(name, arm, args) if run in results
        }
        found[arm] = max(tried, key=tried.__getitem__) if tried else 1.0
    return found


def tuned(name: str, arm: str, args: argparse.Namespace) -> list[Run]:
    """Runs that choose the rate of an arm."""
    return [Run(name, arm, args.tune_seed, rate, 0) for rate in args.rates or []]


def run_of(name: str, arm: str, seed: int, rate: float, args: argparse.Namespace) -> Run:
    """The run of a seed that is reported."""
    return Run(name, arm, seed, rate, 1) if args.rates else Run(name, arm, seed)


def tuning(
    name: str,
    arms: list[str],
    rates: dict[str, float],
    args: argparse.Namespace,
    results: dict[Run, dict],
) -> list[str]:
    """What the rates were chosen by: a table, if they were."""
    if not args.rates:
        return []
    rows = [[f'rate, seed {args.tune_seed}', *(f'{rate:g}' for rate in args.rates), 'chosen']]
    for arm in arms:
        tried = [results.get(run) for run in tuned(name, arm, args)]
        cells = [f'{result["metric"]:.2f}' if result else '' for result in tried]
        rows.append([arm, *cells, f'{rates[arm]:g}'])
    return [markdown(rows)]


def diagnostics(results: dict[str, list[dict]]) -> list[str]:
    """What the hierarchies of the arms look like: a table, if there is one."""
    found = {
        arm: [run['hierarchy'] for run in runs]
        for arm, runs in results.items()
        if 'hierarchy' in runs[0]
    }
    keys = ['image_cosine', 'sibling_cosine', 'radius_1', 'radius_2', 'radius_3', 'capped',
            'nested_1', 'nested_2', 'visible_1', 'visible_2', 'visible_3']  # fmt: skip
    rows = [['hierarchy', *keys]]
    for arm, runs in found.items():
        cells = []
        for key in keys:
            values = [run[key] for run in runs if key in run]
            cells.append(f'{statistics.mean(values):.2f}' if values else '')
        rows.append([arm, *cells])
    return [markdown(rows)] if found else []


def run_all(args: argparse.Namespace) -> dict[Run, dict]:
    """Does what is not done yet, until the time is over; returns what there is."""
    from hyper_mm.engine.runs import in_parallel

    end = time.time() + 60 * args.minutes
    console = Console()

    def work(run: Run) -> dict | None:
        from hyper_mm.engine.records import key_of, load_result

        if time.time() > end:
            return load_result(
                run_folder(run, args) / 'result.json', key_of(build_config(run, args))
            )
        result = result_of(run, args)
        console.print(f'{", ".join(map(str, run[:4]))}: {result["metric"]:.2f}')
        return result

    def done(runs: list[Run]) -> dict[Run, dict]:
        found = dict(zip(runs, in_parallel(work, runs, args.jobs)))
        return {run: result for run, result in found.items() if result is not None}

    results: dict[Run, dict] = {}
    for name in args.sets:
        results |= done([run for arm in args.arms for run in tuned(name, arm, args)])
        rates = chosen_rates(name, args, results)
        results |= done(
            [run_of(name, arm, s, rates[arm], args) for s in args.seeds for arm in args.arms]
        )
    return results


def main() -> None:
    """Command line."""
    args = parse_args()
    text = report(args, run_all(args))
    Console().print(text, markup=False, soft_wrap=True)
    if args.out:
        text += f'\n\n{command()}\n\n{versions()}; {args.threads} threads a run.'
        write_table(args.out, args.work_dir.resolve().name, text)


if __name__ == '__main__':
    main()
