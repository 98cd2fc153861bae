"""Trains and tests several arms over several seeds with the stock scripts, and writes one table.

    python tools/experiments/compare_arms.py --seeds 0 1 2 --work-dir work_dirs/camvid
        --arm plain configs/himapper/deit-t_camvid.py
        --arm hi-mapper configs/himapper/himapper_deit-t_camvid.py
        --arm open-gate configs/himapper/himapper_deit-t_camvid.py model.neck.gate_init=1.0
        --out docs/tables/camvid.md

An arm is a name, a config and any number of --cfg-options, in which {seed} stands for the seed; the
first is what the others are compared with, seed by seed. Finished runs are kept, and used again
where config, options, the files they name and the code are the same: the command resumes where it
stopped. What else is in the folder of a run is kept beside it as old_*.

In the file of --out only what stands between <!-- NAME --> and <!-- end of NAME --> is replaced,
NAME being the last folder of --work-dir; see write_table.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from tables import command, markdown, standard_error, versions, write_table

SCOPES = {
    'mmseg': 'mIoU',
    'mmdet': 'coco/bbox_mAP',
    'mmpretrain': 'accuracy/top1',
    'hyper_mm': 'lm/perplexity',
}


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--arm',
        nargs='+',
        action='append',
        required=True,
        metavar=('NAME CONFIG', 'KEY=VALUE'),
        help='name, config and options of an arm; repeat for each',
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--work-dir', type=Path, required=True)
    parser.add_argument('--out', type=Path, help='markdown file, written between its marks')
    parser.add_argument(
        '--metric',
        nargs='+',
        help="metrics of the test log, one table each (default: the framework's first)",
    )
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time')
    parser.add_argument('--threads', type=int, default=2, help='threads of a run')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='options of all arms')
    args = parser.parse_args()
    for arm in args.arm:
        if len(arm) < 2 or not Path(arm[1]).is_file():
            parser.error(f'--arm needs a name and a config file, got {arm}')
    check_names(parser, [arm[0] for arm in args.arm])
    return args


def check_names(parser: argparse.ArgumentParser, names: list[str]) -> None:
    """Refuses two arms of one name: their runs would share folders, and rows of the table."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        parser.error(f'--arm: names must differ, got {", ".join(map(repr, twice))} more than once')


def script_of(name: str, scope: str) -> Path:
    """Path of a script that the framework installs, or of this project's own."""
    from hyper_mm.engine.runs import stock_script

    own = Path(__file__).resolve().parents[1] / name
    return own if scope == 'hyper_mm' else stock_script(name, scope)


def scope_of(config: str) -> str:
    """Default scope of a config."""
    from mmengine.config import Config

    return Config.fromfile(config, import_custom_modules=False).get('default_scope', 'mmseg')


def resolved(config: str, options: list[str]):
    """A config with its options, as the stock scripts resolve it."""
    from mmengine.config import Config

    from hyper_mm.engine.launch import parse_options

    cfg = Config.fromfile(config, import_custom_modules=False)
    cfg.merge_from_dict(parse_options(options))
    return cfg


def run_folder(work_dir: Path, arm: str, seed: int) -> Path:
    """Folder of a run."""
    from hyper_mm.engine.records import safe_name

    return work_dir / safe_name(arm) / f'seed{seed}'


def trained_parameters(checkpoint: Path) -> int | None:
    """How many parameters the optimizer of a checkpoint has moved; None if it keeps no moments."""
    if not checkpoint.is_file():
        return None
    from hyper_mm.checkpoints import load_from_local

    optimizer = load_from_local(str(checkpoint), map_location='cpu').get('optimizer', {})
    states = optimizer.get('state', {}).values()
    moments = [s.get('exp_avg', s.get('momentum_buffer')) for s in states]
    return sum(m.numel() for m in moments if m is not None) or None


def metrics_of(args: argparse.Namespace) -> list[str]:
    """Names of the metrics: those asked for, or the first of the framework."""
    return args.metric or [SCOPES[scope_of(args.arm[0][1])]]


def measured(log: Path, metrics: list[str]) -> dict[str, float]:
    """Last values of metrics in the log of a test; they may be ``nan`` or ``inf``.

    Raises:
        RuntimeError: If one is not there.
    """
    text, values = log.read_text(), {}
    for metric in metrics:
        number = r'-?(?:[0-9.]+(?:e[+-]?[0-9]+)?|nan|inf)\b'
        found = re.findall(rf'(?<![\w/]){re.escape(metric)}: +({number})', text)
        if not found:
            raise RuntimeError(f'no {metric} in {log}')
        values[metric] = float(found[-1])
    return values


def train_and_test(arm: list[str], seed: int, args: argparse.Namespace) -> dict:
    """One run; what it cost is kept in ``result.json``, and a run that has it is not repeated."""
    from hyper_mm.engine.records import claim, key_of, load_result, save_result

    name, config, *options = arm
    folder = run_folder(args.work_dir, name, seed)
    options = [o.replace('{seed}', str(seed)) for o in (*args.cfg_options, *options)]
    options = [f'randomness.seed={seed}', *options]
    key = key_of(resolved(config, options))
    file = folder / 'result.json'
    result = load_result(file, key)
    if result is None:
        with claim(folder, key) as lock:
            result = load_result(file, key)
            if result is None:
                cost = run_arm(config, options, folder, args, lock)
                result = dict(arm=name, seed=seed, **cost)
                save_result(file, key, result)
    return {**result, 'metrics': measured(folder / 'test.log', metrics_of(args))}


def run_arm(config: str, options: list[str], folder: Path, args: argparse.Namespace, lock) -> dict:
    """Trains and tests, or goes on with it; returns what it cost."""
    from hyper_mm.engine.runs import run_script

    scope = scope_of(config)
    own = [o for o in options if not o.startswith('load_from=')]
    if (folder / 'last_checkpoint').is_file():  # `load_from` would be what to resume
        start = ['--resume', '--cfg-options', *own]
    else:
        start = ['--cfg-options', *options]
    arguments = [config, '--work-dir', folder, *start]
    script, how = script_of('train.py', scope), dict(threads=args.threads, lock=lock)
    finished = run_script(script, arguments, folder / 'train.log', **how)
    checkpoint = (folder / 'last_checkpoint').read_text().strip()
    # mmpretrain's test script prefers a `load_from` among the options to its checkpoint
    arguments = [config, checkpoint, '--work-dir', folder / 'test', '--cfg-options', *own]
    run_script(script_of('test.py', scope), arguments, folder / 'test.log', **how)
    scalars = sorted(folder.glob('*/vis_data/scalars.json'))[-1]
    steps = [json.loads(line) for line in scalars.read_text().splitlines()]
    steps = [step for step in steps if 'loss' in step]
    times = [step['time'] for step in steps]
    return dict(
        seconds=statistics.median(times[1:] or times) if times else None,  # too short to log
        memory=finished.memory,
        trained=trained_parameters(Path(checkpoint)),
        last=steps[-1] if steps else {},
    )


def costs(own: list[dict]) -> dict[str, str]:
    """What the runs of an arm cost, as far as it is known."""
    seconds = [r['seconds'] for r in own if r['seconds'] is not None]
    found = {'s/iter': f'{statistics.median(seconds):.3f}'} if seconds else {}
    memory = [r['memory'] for r in own if 'memory' in r]
    if memory:
        found['GiB'] = f'{max(memory):.2f}'
    if own[0].get('trained'):
        found['trained'] = f'{own[0]["trained"]:,}'
    return found


def table(
    args: argparse.Namespace,
    results: dict[tuple[str, int], dict],
    metric: str,
    with_costs: bool = True,
) -> str:
    """The markdown table of a metric.

    Spreads are standard errors; differences are taken seed by seed, and so are their errors.
    """
    names = [arm[0] for arm in args.arm]
    seeds = [f'seed {s}' for s in args.seeds]
    scale = 100 if metric.startswith('coco/') else 1  # mmdet's are fractions
    values = [abs(scale * r['metrics'][metric]) for r in results.values()]
    digits = 2 if max(filter(math.isfinite, values), default=0) > 1 else 3
    cost = {n: costs([results[n, s] for s in args.seeds]) if with_costs else {} for n in names}
    columns = list(dict.fromkeys(column for own in cost.values() for column in own))
    means = [metric, f'against {names[0]}']
    if len(seeds) > 1:
        means = [f'{means[0]}, mean ± standard error', f'{means[1]}, paired ± standard error']
    rows = [['arm', *seeds, *means, *columns]]
    for name in names:
        own = [results[name, s] for s in args.seeds]
        base = [scale * results[names[0], s]['metrics'][metric] for s in args.seeds]
        values = [scale * r['metrics'][metric] for r in own]
        gain = [v - b for v, b in zip(values, base)]
        gain = standard_error(gain, digits) if name != names[0] else ''
        each = [f'{v:.{digits}f}' for v in values]
        paid = [cost[name].get(column, '') for column in columns]
        rows.append([name, *each, standard_error(values, digits), gain, *paid])
    return markdown(rows)


def compare(args: argparse.Namespace) -> str:
    """Runs all arms with all seeds.

    Args:
        args: What :func:`parse_args` gives.

    Returns:
        The markdown tables, one a metric; what the runs cost is in the first.
    """
    from hyper_mm.engine.runs import in_parallel

    jobs = [(arm, seed) for seed in args.seeds for arm in args.arm]
    with Progress() as progress:
        task = progress.add_task('runs', total=len(jobs))

        def work(job):
            result = train_and_test(*job, args)
            progress.advance(task)
            first = next(iter(result['metrics'].values()))
            progress.console.print(f'{job[0][0]} seed {job[1]}: {first:.4g}')
            return (job[0][0], job[1]), result

        results = dict(in_parallel(work, jobs, args.jobs))
    tables = [table(args, results, m, with_costs=not i) for i, m in enumerate(metrics_of(args))]
    text = '\n\n'.join(tables)
    Console().print(text, markup=False, soft_wrap=True)
    return text


def main() -> None:
    """Command line."""
    args = parse_args()
    text = compare(args)
    if args.out:
        text += f'\n\n{command()}\n\n{versions()}; {args.threads} threads a run.'
        write_table(args.out, args.work_dir.resolve().name, text)


if __name__ == '__main__':
    main()
