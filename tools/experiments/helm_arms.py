"""Compares language models, each at the best of a few learning rates, over several seeds.

    python tools/experiments/helm_arms.py --work-dir work_dirs/helm_arms
        --arm llama configs/helm/llama_mini_hierarcaps.py
        --arm helm-d configs/helm/helm-d_mini_hierarcaps.py
        --arm helm-d-official configs/helm/helm-d_mini_hierarcaps.py model.decoder.init_std=None
        --rates 1e-3 2e-3 4e-3 --tune-iters 100 --seeds 0 1 2 --out docs/tables/helm_hierarcaps.md

The learning rate of an arm is the one with the lowest perplexity on the split `tune` (see
--tune-share of tokenize_text.py) after a run of --tune-iters steps with the first seed; the rates
are the same for all arms, and where there is one alone these runs are left out. With it an arm is
trained as its config says, once a seed, and tested on the split of its config. Arms are as in
compare_arms.py, the first is what the others are compared with; so are the folders of runs, the
results that are kept and used again, and the marks in the file of --out. --curvatures adds what the
experts' curvatures were at the first step and have become, and how far the farthest has gone.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from compare_arms import check_names, resolved, run_folder, table
from rich.console import Console
from tables import command, markdown, standard_error, versions, write_table

if TYPE_CHECKING:
    from mmengine.config import Config

METRIC = 'lm/perplexity'


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--arm', nargs='+', action='append', required=True, metavar=('NAME CONFIG', 'KEY=VALUE'))
    add('--rates', type=float, nargs='+', required=True, help='learning rates to choose from')
    add('--tune-iters', type=int, default=100, help='steps of the runs that choose')
    add('--iters', type=int, help='steps of the others (default: those of the config)')
    add('--seeds', type=int, nargs='+', default=[0, 1, 2])
    add('--work-dir', type=Path, required=True)
    add('--out', type=Path, help='markdown file, written between its marks')
    add('--curvatures', action='store_true', help='table of the learned curvatures')
    add('--threads', type=int, default=1, help='threads of torch')
    args = parser.parse_args()
    for arm in args.arm:
        if len(arm) < 2 or not Path(arm[1]).is_file():
            parser.error(f'--arm needs a name and a config file, got {arm}')
    check_names(parser, [arm[0] for arm in args.arm])
    return args


def of_length(cfg: Config, iters: int) -> Config:
    """Changes the number of steps: warm-up as long as before, the decay ends with the run."""
    old = cfg.train_cfg.max_iters
    for scheduler in cfg.param_scheduler:
        if scheduler.end == old:
            scheduler.end = iters
    cfg.train_cfg.max_iters = iters
    return cfg


def config_of(arm: list[str], rate: float, seed: int, iters: int | None, split: str | None):
    """Config of a run, which is tested after training and not validated in between."""
    cfg = resolved(arm[1], arm[2:])
    cfg.optim_wrapper.optimizer.lr = rate
    cfg.randomness = dict(seed=seed)
    of_length(cfg, iters or cfg.train_cfg.max_iters)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.train_cfg.pop('val_interval', None)
    if split:
        cfg.test_dataloader.dataset.split = split
    return cfg


def run(cfg: Config, folder: Path) -> dict:
    """Trains and tests in this process, or reads what a run of the same key has left."""
    from mmengine.runner import Runner

    from hyper_mm.engine.records import claim, key_of, load_result, name_of, save_result

    key, file = key_of(cfg), folder / 'result.json'
    result = load_result(file, key)
    if result is not None:
        return result
    with claim(folder, key):
        cfg.work_dir = str(folder)
        cfg.experiment_name = f'{folder.parent.name}-{folder.name}-{name_of(key)}'
        cfg.log_level = 'WARNING'
        runner = Runner.from_cfg(cfg)
        runner.train()
        metrics = runner.test()
        scalars = runner.message_hub.log_scalars
        times = scalars['train/time'].data[0].tolist()
        logged = {
            name.removeprefix('train/'): value
            for name, value in scalars.items()
            if name.startswith('train/')
        }
        result = dict(
            metrics={METRIC: metrics[METRIC]},
            seconds=statistics.median(times[1:] or times),
            trained=sum(p.numel() for p in runner.model.parameters() if p.requires_grad),
            first={name: float(value.data[0][0]) for name, value in logged.items()},
            last={name: value.current() for name, value in logged.items()},
        )
        save_result(file, key, result)
    return result


def best_rate(arm: list[str], args: argparse.Namespace) -> tuple[float, list[float]]:
    """The rate of the lowest perplexity on `tune`, and the perplexities of all; none of one."""
    if len(args.rates) == 1:
        return args.rates[0], []
    found = []
    for rate in args.rates:
        cfg = config_of(arm, rate, args.seeds[0], args.tune_iters, 'tune')
        folder = run_folder(args.work_dir / 'tune', f'{arm[0]}_lr{rate:g}', args.seeds[0])
        found.append(run(cfg, folder)['metrics'][METRIC])
        Console().print(f'{arm[0]} at {rate:g}: {found[-1]:.4g} on tune', highlight=False)
    finite = [value if value == value else float('inf') for value in found]
    return args.rates[finite.index(min(finite))], found


def curvatures(args: argparse.Namespace, results: dict[tuple[str, int], dict]) -> str:
    """The markdown table of the experts' curvatures, a layer each."""
    rows = [['arm', 'layer', 'initial', 'learned, mean ± standard error', 'largest |ln ratio|']]
    pattern = re.compile(r'decoder/blocks\.(\d+)\.ffn\.(?:shared_)?curvatures\.\d+')
    for name in (arm[0] for arm in args.arm):
        own = [results[name, seed] for seed in args.seeds]
        layers: dict[str, list[str]] = {}
        for key in own[0]['last']:
            if match := pattern.fullmatch(key):
                layers.setdefault(match.group(1), []).append(key)
        for layer, keys in layers.items():
            initial = [own[0]['first'][key] for key in keys]
            learned = [[run['last'][key] for run in own] for key in keys]
            moved = max(abs(math.log(v / i)) for i, values in zip(initial, learned) for v in values)
            cells = [', '.join(f'{c:.2f}' for c in initial)]
            cells.append(', '.join(standard_error(values) for values in learned))
            rows.append([name, layer, *cells, f'{moved:.2f}'])
    return f'Curvatures of experts, shared ones last:\n\n{markdown(rows)}'


def compare(args: argparse.Namespace) -> str:
    """Runs all arms with all seeds.

    Args:
        args: What :func:`parse_args` gives.

    Returns:
        The markdown tables: perplexities, how the learning rates were chosen, and what else is
        asked for.
    """
    results, rows = {}, [['arm', *(f'{rate:g}' for rate in args.rates), 'chosen']]
    for arm in args.arm:
        rate, found = best_rate(arm, args)
        cells = [f'{value:.2f}' for value in found] or ['']
        rows.append([arm[0], *cells, f'{rate:g}'])
        for seed in args.seeds:
            cfg = config_of(arm, rate, seed, args.iters, None)
            result = run(cfg, run_folder(args.work_dir, arm[0], seed))
            results[arm[0], seed] = result
            value = result['metrics'][METRIC]
            Console().print(f'{arm[0]} seed {seed}: {value:.4g}', highlight=False)
    tuning = f'Perplexity on `tune` after {args.tune_iters} steps, by learning rate:'
    parts = [table(args, results, METRIC), tuning, markdown(rows)]
    if args.curvatures:
        parts.append(curvatures(args, results))
    text = '\n\n'.join(parts)
    Console().print(text, markup=False, soft_wrap=True)
    return text


def main() -> None:
    """Command line."""
    args = parse_args()
    import torch

    torch.set_num_threads(args.threads)
    text = compare(args)
    if args.out:
        text += f'\n\n{command()}\n\n{versions()}; {args.threads} threads.'
        write_table(args.out, args.work_dir.resolve().name, text)


if __name__ == '__main__':
    main()
