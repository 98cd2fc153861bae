"""Runs all benchmarks: a table, a plot, and a line of the history.

    python tools/benchmarks/run_all.py --quick                 # below ten minutes on two cores
    python tools/benchmarks/run_all.py                         # the sizes of docs/benchmarks.md
    python tools/benchmarks/run_all.py --only geometry helm

Each figure is that of its benchmark: mostly the ratio of two things that took turns, as median and
quartiles of the rounds, so that a busy machine hits both. Under --out are then `report.md`, a table
with the figures of the last run on the same machine beside those of this one; `report.png`, all
ratios with their interquartile ranges; and `history.jsonl`, a line a run with machine and versions.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from timing import RECORD, quartiles

HERE = Path(__file__).resolve().parent
VERSIONS = (
    'torch', 'numpy', 'mmengine', 'mmcv', 'mmsegmentation', 'mmdet', 'mmpretrain',
    'open_clip_torch', 'geoopt', 'hypll',
)  # fmt: skip
HELPERS = ('run_all', 'straightforward_aggregator', 'timing')
"""Files of this folder that are no benchmarks."""


class Sizes(NamedTuple):
    """Arguments of a benchmark: always, and for a quick run."""

    whole: str = ''
    quick: str = ''


BENCHMARKS = {
    'geometry': Sizes('', '--repeats 1 --error-pairs 20'),
    'geometry_ops': Sizes('', '--rows 512 --repeats 3'),
    'geometry_stress': Sizes(),
    'himapper': Sizes('', '--backbones deit-t --batch 2 --repeats 3'),
    'hyperclip': Sizes('', '--model ViT-B-32 --blocks 2 --batch 2 --repeats 3'),
    'cost_aggregation': Sizes('', '--classes 20 --side 12 --repeats 2'),
    'open_vocab_detection': Sizes('', '--only regions --repeats 5'),
    'lite_clip': Sizes('--parts speed'),
    'lathadapter': Sizes('', '--parts triplets overhead --image-layers 2 --text-layers 2 '
                         '--batch 2 --repeats 3'),
    'hierarcaps_metric': Sizes('', '--images 100 --texts 400 --rounds 3'),
    'helm': Sizes('', '--length 128 --decode 64 --depth 1 --repeats 3 --only step decode'),
    'metaseg': Sizes('', '--only contrast bands mix --repeats 3'),
}  # fmt: skip


def machine() -> dict[str, object]:
    """What the figures depend on besides the code."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    from hyper_mm.version import __version__

    found = dict(hyper_mm=__version__)  # the metadata of an editable install may be older
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return dict(
        processor=names[0] if names else platform.processor() or platform.machine(),
        cores=os.cpu_count(),
        system=platform.platform(terse=True),
        python=platform.python_version(),
        versions=found,
    )


def load() -> float | None:
    """Mean number of processes that wanted a core in the last minute."""
    return os.getloadavg()[0] if hasattr(os, 'getloadavg') else None


def run(name: str, arguments: Sequence[str], log: Path) -> tuple[list[dict], int]:
    """Runs one benchmark.

    Args:
        name: Of the script.
        arguments: Its arguments.
        log: File for what it prints.

    Returns:
        What it noted, and its exit code.
    """
    with tempfile.TemporaryDirectory() as folder, log.open('w', encoding='utf-8') as output:
        notes = Path(folder) / 'notes.jsonl'
        code = subprocess.run(
            [sys.executable, str(HERE / f'{name}.py'), *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, RECORD: str(notes)},
        ).returncode
        rows = notes.read_text(encoding='utf-8').splitlines() if notes.exists() else []
    return [json.loads(row) for row in rows], code


def summary(row: dict) -> dict:
    """A figure with its quartiles in place of its values."""
    low, median, high = quartiles(row['values'])
    kept = {key: value for key, value in row.items() if key != 'values'}
    return dict(kept, low=low, median=median, high=high, rounds=len(row['values']))


def key_of(row: dict) -> tuple[str, str]:
    """What a figure is of."""
    return row['benchmark'], row['name']


def earlier(history: Path, entry: dict) -> dict[tuple[str, str], dict]:
    """Figures of the last run on the same machine with the same sizes, by what they are of."""
    found: dict[tuple[str, str], dict] = {}
    lines = history.read_text(encoding='utf-8').splitlines() if history.exists() else []
    for line in lines:
        old = json.loads(line)
        same = all(old[k] == entry[k] for k in ('quick', 'threads'))
        if same and old['machine']['processor'] == entry['machine']['processor']:
            found |= {key_of(row): row for row in old['figures']}
    return found


def shown(value: float) -> str:
    """A figure with the digits that say something."""
    return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'


def table(entry: dict, before: dict[tuple[str, str], dict]) -> str:
    """The report in Markdown."""
    where, lines = entry['machine'], []
    versions = ', '.join(f'{name} {number}' for name, number in where['versions'].items())
    lines += [
        '# Benchmarks',
        '',
        f'{entry["date"]}, {where["processor"]} ({where["cores"]} cores, load {entry["load"]}), '
        f'{entry["threads"]} threads, {"quick sizes" if entry["quick"] else "whole sizes"}; '
        f'Python {where["python"]}, {versions}.',
        '',
        '| benchmark | figure | median | quartiles | rounds | better | before |',
        '|---|---|---|---|---|---|---|',
    ]
    for row in entry['figures']:
        old = before.get(key_of(row))
        past = '-' if old is None else shown(old['median'])
        lines.append(
            f'| {row["benchmark"]} | {row["name"]} | {shown(row["median"])} {row["unit"]} '
            f'| {shown(row["low"])} to {shown(row["high"])} | {row["rounds"]} | {row["better"]} '
            f'| {past} |'
        )
    lines += ['', *(f'**{name} failed**: see {name}.log' for name in entry['failed'])]
    return '\n'.join(lines).rstrip() + '\n'


def plot(entry: dict, file: Path) -> None:
    """Draws all ratios with their interquartile ranges."""
    import matplotlib

    matplotlib.use('agg')
    from matplotlib import pyplot as plt

    rows = [row for row in entry['figures'] if row['unit'] == 'times' and row['low'] > 0][::-1]
    figure, axes = plt.subplots(figsize=(10, 1 + 0.25 * len(rows)))
    for place, row in enumerate(rows):
        color = 'tab:green' if row['better'] == 'higher' else 'tab:blue'
        spread = [[row['median'] - row['low']], [row['high'] - row['median']]]
        axes.errorbar(row['median'], place, xerr=spread, fmt='o', markersize=4, color=color)
    axes.axvline(1, color='gray', linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f'{r["benchmark"]}: {r["name"]}' for r in rows], fontsize=7)
    axes.set_xscale('log')
    axes.margins(y=0.01)
    axes.set_xlabel('ratio of times, median and quartiles (green: more is better, blue: less)')
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--quick', action='store_true', help='small sizes and few rounds')
    parser.add_argument('--only', nargs='+', choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument(
        '--threads', type=int, default=1, help='threads of torch, where it is asked'
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'))
    return parser


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the number of benchmarks that failed."""
    args = build_parser().parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    entry: dict = dict(
        date=time.strftime('%Y-%m-%d %H:%M'),
        quick=args.quick,
        threads=args.threads,
        load=load(),
        machine=machine(),
        failed=[],
        figures=[],
        seconds={},
    )
    for name in args.only:
        sizes, started = BENCHMARKS[name], time.perf_counter()
        arguments = [*sizes.whole.split(), *(sizes.quick.split() if args.quick else ())]
        if "'--threads'" in (HERE / f'{name}.py').read_text(encoding='utf-8'):
            arguments += ['--threads', str(args.threads)]
        print(f'{name} {" ".join(arguments)}', flush=True)
        rows, code = run(name, arguments, args.out / f'{name}.log')
        entry['figures'] += map(summary, rows)
        entry['seconds'][name] = round(time.perf_counter() - started, 1)
        if code or not rows:
            entry['failed'].append(name)
            print(f'    failed: see {args.out / name}.log', flush=True)
    history = args.out / 'history.jsonl'
    text = table(entry, earlier(history, entry))
    (args.out / 'report.md').write_text(text, encoding='utf-8')
    plot(entry, args.out / 'report.png')
    with history.open('a', encoding='utf-8') as file:
        file.write(json.dumps(entry) + '\n')
    print(f'\n{text}\n{args.out / "report.png"}, {history}')
    return len(entry['failed'])


if __name__ == '__main__':
    sys.exit(main())
