"""Trains and tests several arms over several seeds with the stock scripts, and writes one table.

    python tools/experiments/compare_arms.py --seeds 0 1 2 --work-dir work_dirs/camvid
        --arm plain configs/himapper/deit-t_camvid.py
        --arm hi-mapper configs/himapper/himapper_deit-t_camvid.py
        --arm open-gate configs/himapper/himapper_deit-t_camvid.py model.neck.gate_init=1.0
        --out docs/tables/camvid.md

An arm is a name, a config and any number of --cfg-options, in which {seed} stands for the seed; the
first is what the others are compared with, seed by seed. Finished runs are kept: the command
resumes where it stopped.

In the file of --out only what stands between <!-- NAME --> and <!-- end of NAME --> is replaced,
NAME being the last folder of --work-dir; see write_table.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

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
    return args


def stock_script(name: str, scope: str) -> Path:
    """Path of a script that the framework installs, or of this project's own."""
    if scope == 'hyper_mm':
        return Path(__file__).resolve().parents[1] / name
    root = Path(importlib.util.find_spec(scope).origin).parent
    return root / '.mim' / 'tools' / name


def run(script: Path, arguments: list, log: Path, threads: int) -> float:
    """Runs a stock script; its output goes to a file.

    Returns:
        Peak memory of its main process, in GiB.

    Raises:
        RuntimeError: If it fails; with the last lines of its output.
    """
    env = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    command = [sys.executable, str(script), *map(str, arguments)]
    with log.open('w') as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=env)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = '\n'.join(log.read_text(errors='replace').splitlines()[-5:])
        raise RuntimeError(f'{script.name} failed, see {log}:\n{tail}')
    return usage.ru_maxrss / 2**20


def scope_of(config: str) -> str:
    """Default scope of a config."""
    from mmengine.config import Config

    return Config.fromfile(config, import_custom_modules=False).get('default_scope', 'mmseg')


def folder_name(arm: str) -> str:
    """Folder of an arm: its name in letters that --cfg-options leave alone."""
    return re.sub(r'[^0-9A-Za-z.+=-]+', '-', arm)


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
    """Last values of metrics in the log of a test.

    Raises:
        RuntimeError: If one is not there.
    """
    text, values = log.read_text(), {}
    for metric in metrics:
        found = re.findall(rf'(?<![\w/]){re.escape(metric)}: +(-?[0-9.]+)', text)
        if not found:
            raise RuntimeError(f'no {metric} in {log}')
        values[metric] = float(found[-1])
    return values


def train_and_test(arm: list[str], seed: int, args: argparse.Namespace) -> dict:
    """One run; what it cost is kept in ``result.json``, and a run that has it is not repeated."""
    name, config, *options = arm
    folder = args.work_dir / folder_name(name) / f'seed{seed}'
    result_file = folder / 'result.json'
    if result_file.is_file():
        result = json.loads(result_file.read_text())
        return {**result, 'metrics': measured(folder / 'test.log', metrics_of(args))}
    folder.mkdir(parents=True, exist_ok=True)
    scope = scope_of(config)
    options = [o.replace('{seed}', str(seed)) for o in (*args.cfg_options, *options)]
    options = [f'randomness.seed={seed}', *options]
    own = [o for o in options if not o.startswith('load_from=')]
    if (folder / 'last_checkpoint').is_file():  # `load_from` would be what to resume
        start = ['--resume', '--cfg-options', *own]
    else:
        start = ['--cfg-options', *options]
    arguments = [config, '--work-dir', folder, *start]
    script = stock_script('train.py', scope)
    memory = run(script, arguments, folder / 'train.log', args.threads)
    checkpoint = (folder / 'last_checkpoint').read_text().strip()
    # mmpretrain's test script prefers a `load_from` among the options to its checkpoint
    arguments = [config, checkpoint, '--work-dir', folder / 'test', '--cfg-options', *own]
    run(stock_script('test.py', scope), arguments, folder / 'test.log', args.threads)
    metrics = measured(folder / 'test.log', metrics_of(args))
    scalars = sorted(folder.glob('*/vis_data/scalars.json'))[-1]
    steps = [json.loads(line) for line in scalars.read_text().splitlines()]
    steps = [step for step in steps if 'loss' in step]
    times = [step['time'] for step in steps]
    result = dict(
        arm=name,
        seed=seed,
        seconds=statistics.median(times[1:] or times),
        memory=memory,
        trained=trained_parameters(Path(checkpoint)),
        last=steps[-1],
    )
    result_file.write_text(json.dumps(result, indent=1))
    return {**result, 'metrics': metrics}


def spread(values: list[float], digits: int = 2) -> str:
    """Mean, and standard deviation where there are several."""
    mean = f'{statistics.mean(values):.{digits}f}'
    return f'{mean} ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else mean


def costs(own: list[dict]) -> dict[str, str]:
    """What the runs of an arm cost, as far as it is known."""
    found = {'s/iter': f'{statistics.median(r["seconds"] for r in own):.3f}'}
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
    """The markdown table of a metric."""
    names = [arm[0] for arm in args.arm]
    seeds = ' | '.join(f'seed {s}' for s in args.seeds)
    scale = 100 if metric.startswith('coco/') else 1  # mmdet's are fractions
    largest = max(abs(scale * r['metrics'][metric]) for r in results.values())
    digits = 2 if largest > 1 else 3
    cost = {n: costs([results[n, s] for s in args.seeds]) if with_costs else {} for n in names}
    columns = list(dict.fromkeys(column for own in cost.values() for column in own))
    header = ['arm', seeds, metric, f'against {names[0]}', *columns]
    lines = [
        f'| {" | ".join(header)} |',
        '|---' * (len(args.seeds) + 3 + len(columns)) + '|',
    ]
    for name in names:
        own = [results[name, s] for s in args.seeds]
        base = [scale * results[names[0], s]['metrics'][metric] for s in args.seeds]
        values = [scale * r['metrics'][metric] for r in own]
        gain = [v - b for v, b in zip(values, base)]
        gain = spread(gain, digits) if name != names[0] else ''
        each = ' | '.join(f'{v:.{digits}f}' for v in values)
        paid = [cost[name].get(column, '') for column in columns]
        row = [name, each, spread(values, digits), gain, *paid]
        lines.append(f'| {" | ".join(row)} |')
    return '\n'.join(lines)


def write_table(file: Path, name: str, text: str) -> None:
    """Writes a table into a markdown file and leaves everything else in the file as it is.

    What stands between the lines ``<!-- name -->`` and ``<!-- end of name -->`` is replaced; a file
    without these marks gets the marked table at its end.

    Args:
        file: The file, made if it is not there.
        name: What the table is of; tables in one file need different names.
        text: The table and what belongs to it.

    Raises:
        ValueError: If the file does not hold both marks once, in their order, or none of them.
    """
    begin, end = f'<!-- {name} -->', f'<!-- end of {name} -->'
    block = [begin, '', text.strip(), '', end]
    lines = file.read_text(encoding='utf-8').rstrip().split('\n') if file.is_file() else []
    found = [i for i, line in enumerate(lines) if line in (begin, end)]
    marks = [lines[i] for i in found]
    if marks == [begin, end]:
        lines[found[0] : found[1] + 1] = block
    elif not marks:
        lines = [*lines, '', *block] if any(lines) else block
    else:
        raise ValueError(f'{file} must hold {begin} and {end} once, in this order, got {marks}')
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('\n'.join(lines) + '\n', encoding='utf-8')


def versions() -> str:
    """Versions that produced the table."""
    from importlib.metadata import version

    import torch

    parts = [f'Python {platform.python_version()}', f'torch {torch.__version__}']
    for package in ('mmengine', 'mmcv', 'mmsegmentation', 'mmdet', 'mmpretrain'):
        for name in (package, f'onedl-{package}'):
            try:
                parts.append(f'{name} {version(name)}')
            except ImportError:
                continue
    return ', '.join(parts)


def compare(args: argparse.Namespace) -> str:
    """Runs all arms with all seeds.

    Args:
        args: What :func:`parse_args` gives.

    Returns:
        The markdown tables, one a metric; what the runs cost is in the first.
    """
    jobs = [(arm, seed) for seed in args.seeds for arm in args.arm]
    results = {}
    with Progress() as progress, ThreadPoolExecutor(args.jobs) as pool:
        task = progress.add_task('runs', total=len(jobs))

        def work(job):
            result = train_and_test(*job, args)
            progress.advance(task)
            first = next(iter(result['metrics'].values()))
            progress.console.print(f'{job[0][0]} seed {job[1]}: {first:.4g}')
            return (job[0][0], job[1]), result

        results = dict(pool.map(work, jobs))
    tables = [table(args, results, m, with_costs=not i) for i, m in enumerate(metrics_of(args))]
    text = '\n\n'.join(tables)
    Console().print(text, markup=False, soft_wrap=True)
    return text


def main() -> None:
    """Command line."""
    args = parse_args()
    text = compare(args)
    if args.out:
        command = shlex.join(sys.argv)
        text += f'\n\n`python {command}`\n\n{versions()}; {args.threads} threads a run.'
        write_table(args.out, args.work_dir.resolve().name, text)


if __name__ == '__main__':
    main()
