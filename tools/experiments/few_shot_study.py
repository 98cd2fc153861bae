r"""LatHAdapter on its hosts, on small sets of few shots: runs, and one page of tables.

    python tools/experiments/few_shot_study.py --jobs 2 --out docs/tables/lathadapter.md

Hosts with and without the adapter, and the CLIP as it is, at several numbers of shots and seeds,
and from base to new classes. With the most shots there are two more arms of the adapter: one
trained without its hyperbolic losses, one whose distance counts (`hyp_tau`). Needs the CLIP of
tools/experiments/pretrain_tiny_clip.py and the data of the configs. Finished runs are kept: the
command resumes where it stopped.
Marks in the file of --out: <!-- lathadapter --> (last folder of --work-dir); see compare_arms.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rich.progress import Progress
from tables import command, spread, versions, write_table
from tables import markdown as table_of

TOOL = Path(__file__).resolve().parents[1] / 'few_shot.py'
HOSTS = {'maple': 'MaPLe', 'promptsrc': 'PromptSRC', 'promptkd': 'PromptKD'}
TEACHERS = {'promptkd': 'promptsrc'}
HYP_TAU = 0.016
"""The distance changes by 1.6 over a unit of cosine, the cosine's logit by 100."""
ARMS = {
    'no-losses': [f'model.head.weights.{name}=0' for name in ('hcls', 'va', 'at')],
    'counts': [f'model.head.hyp_tau={HYP_TAU}'],
}
"""Further arms of the adapter, and their options."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--hosts', nargs='+', choices=list(HOSTS), default=list(HOSTS))
    add('--sets', nargs='+', default=['part-scenes', 'imagenet-coarse', 'omniglot'])
    add('--base2new', nargs='*', default=['part-scenes'], help='sets from base to new classes')
    add('--backbone', default='clip-mini')
    add('--shots', type=int, nargs='+', default=[1, 4, 16])
    add('--seeds', type=int, nargs='+', default=[1, 2, 3])
    add('--steps', type=int, default=100, help='steps of a run')
    add('--jobs', type=int, default=1, help='runs at a time')
    add('--threads', type=int, default=1, help='threads of a run')
    add('--work-dir', type=Path, default=Path('work_dirs/lathadapter'))
    add('--out', type=Path, help='markdown file, written between its marks')
    add('--cfg-options', nargs='+', default=[], help='changes of all configs')
    return parser.parse_args(arguments)


class Call(NamedTuple):
    """A call of tools/few_shot.py: one method, or an arm of it, with all its shots and seeds."""

    method: str
    arm: str
    protocol: str
    sets: list[str]
    shots: list[int]
    seeds: list[int]
    term: bool

    @property
    def taught(self) -> bool:
        """Whether it needs the runs of another method."""
        return self.method.removeprefix('lathadapter_') in TEACHERS


def calls(args: argparse.Namespace) -> list[Call]:
    """All calls, those that need a teacher last."""
    methods = [name for host in args.hosts for name in (host, f'lathadapter_{host}')]
    arms = [('zeroshot', '')] + [(name, '') for name in methods]
    arms += [(f'lathadapter_{host}', arm) for host in args.hosts for arm in ARMS]
    most, found = max(args.shots), []
    fewer = [shots for shots in args.shots if shots != most]
    for method, arm in arms:
        seeds = args.seeds if method != 'zeroshot' else args.seeds[:1]
        if args.sets:
            if fewer and not arm and method != 'zeroshot':
                found.append(Call(method, arm, 'few_shot', args.sets, fewer, seeds, False))
            term = method.startswith('lath')
            found.append(Call(method, arm, 'few_shot', args.sets, [most], seeds, term))
        if args.base2new and not arm:
            found.append(Call(method, arm, 'base2new', args.base2new, [most], seeds, False))
    return sorted(found, key=lambda call: call.taught)


def arguments_of(call: Call, args: argparse.Namespace) -> list[str]:
    """Arguments of a call of tools/few_shot.py, but for where its results go."""
    options = [*args.cfg_options, *ARMS.get(call.arm, [])]
    given = [
        f'--method={call.method}', f'--protocol={call.protocol}', f'--backbone={args.backbone}',
        '--datasets', *call.sets, '--shots', *map(str, call.shots),
        '--seeds', *map(str, call.seeds), f'--steps={args.steps}', f'--work-dir={args.work_dir}',
        f'--threads={args.threads}',
        f'--name={call.method}_{args.backbone}{call.arm and "+" + call.arm}',
    ]  # fmt: skip
    if call.taught:
        given.append(f'--teacher={TEACHERS[call.method.removeprefix("lathadapter_")]}')
    if call.method not in TEACHERS.values():
        given.append('--discard')
    if call.term:
        given.append('--term')
    return [*given, *(['--cfg-options', *options] if options else [])]


def run_all(args: argparse.Namespace) -> dict[tuple, dict]:
    """Runs what is not done yet.

    Args:
        args: What :func:`parse_args` gives.

    Returns:
        By method, arm, protocol, set, half of the classes, shots and seed: accuracy, and ``term``
        where it was measured.
    """
    from hyper_mm.engine.records import name_of
    from hyper_mm.engine.runs import in_parallel, run_script

    todo, results = calls(args), {}
    folder = args.work_dir / 'calls'
    folder.mkdir(parents=True, exist_ok=True)
    with Progress() as progress:
        task = progress.add_task('methods', total=len(todo))

        def work(call: Call) -> None:
            given = arguments_of(call, args)
            name = f'{call.method}{call.arm and "+" + call.arm}_{call.protocol}'
            file = folder / f'{name}_{name_of(dict(arguments=" ".join(given)))}.json'
            file.unlink(missing_ok=True)  # the tool knows which of its results are still good
            run_script(TOOL, [*given, f'--json={file}'], file.with_suffix('.log'))
            for found in json.loads(file.read_text()):
                where = [found[part] for part in ('set', 'half', 'shots', 'seed')]
                results[(call.method, call.arm, call.protocol, *where)] = found
            progress.advance(task)

        for taught in (False, True):  # the teachers of these are there then
            in_parallel(work, [call for call in todo if call.taught == taught], args.jobs)
    return results


def lines_of(args: argparse.Namespace, cells: Callable[[str], list[list[float]]]) -> list[list]:
    """Rows of a table: each host, the adapter on it, and the difference, seed by seed."""
    rows = [['CLIP as it is', *cells('zeroshot')]]
    for host in args.hosts:
        plain, adapted = cells(host), cells(f'lathadapter_{host}')
        gain = [[b - a for a, b in zip(*pair)] for pair in zip(plain, adapted)]
        rows += [[HOSTS[host], *plain], ['+ LatHAdapter', *adapted], ['difference', *gain]]
    return rows


def markdown(header: list[str], rows: list[list]) -> str:
    """A table of texts and of lists of numbers, given as mean and standard deviation."""
    cells = [[x if isinstance(x, str) else spread(x) for x in row] for row in rows]
    return table_of([header, *cells])


def few_shot_table(args: argparse.Namespace, results: dict[tuple, dict]) -> str:
    """Accuracy of each set and number of shots."""
    columns = [(name, shots) for name in args.sets for shots in args.shots]

    def cells(method: str) -> list[list[float]]:
        if method == 'zeroshot':
            keys = [[(name, 'all', max(args.shots), args.seeds[0])] for name, _ in columns]
        else:
            keys = [[(name, 'all', shots, s) for s in args.seeds] for name, shots in columns]
        return [
            [results[(method, '', 'few_shot', *key)]['accuracy'] for key in column]
            for column in keys
        ]

    header = ['', *(f'{name}, {shots}' for name, shots in columns)]
    return markdown(header, lines_of(args, cells))


def base_new_table(args: argparse.Namespace, results: dict[tuple, dict]) -> str:
    """Accuracy on base and on new classes, and their harmonic mean seed by seed."""

    def cells(method: str) -> list[list[float]]:
        seeds = args.seeds[:1] if method == 'zeroshot' else args.seeds
        found = []
        for name in args.base2new:
            base, new = (
                [
                    results[method, '', 'base2new', name, half, max(args.shots), s]['accuracy']
                    for s in seeds
                ]
                for half in ('base', 'new')
            )
            found += [base, new, list(map(statistics.harmonic_mean, zip(base, new)))]
        return found

    header = ['', *(f'{name}, {x}' for name in args.base2new for x in ('base', 'new', 'HM'))]
    return markdown(header, lines_of(args, cells))


def differing(a: list[int], b: list[int]) -> float:
    """Share of predictions that differ, in percent."""
    return 100 * sum(x != y for x, y in zip(a, b)) / len(a)


def term_table(args: argparse.Namespace, results: dict[tuple, dict]) -> str:
    """What the hyperbolic term does with the most shots."""
    shots, rows = max(args.shots), []
    for host in args.hosts:
        for name in args.sets:
            column = {}
            for arm in ('', *ARMS):
                where = (f'lathadapter_{host}', arm, 'few_shot', name, 'all', shots)
                terms = [results[(*where, seed)]['term'] for seed in args.seeds]
                column[arm] = {part: [term[part] for term in terms] for part in terms[0]}
            paper, bare, counts = column[''], column['no-losses'], column['counts']
            moved = list(map(differing, paper['predictions'], bare['predictions']))
            rows.append(
                [f'{HOSTS[host]}, {name}', [100 * x for x in paper['spread']], paper['changed']]
                + [paper['accuracy'], paper['cosine'], moved, bare['accuracy']]
                + [[100 * x for x in counts['spread']], counts['changed'], counts['accuracy']]
            )
    header = ['', 'range', 'changed', 'accuracy', 'cosine alone', 'without its losses: differ']
    header += ['accuracy', f'hyp_tau={HYP_TAU}: range', 'changed', 'accuracy']
    return markdown(header, rows)


def page(args: argparse.Namespace, results: dict[tuple, dict]) -> str:
    """The tables with what they show."""
    shots = ', '.join(map(str, args.shots))
    parts = [
        f'Top-1 accuracy in percent, mean and standard deviation over seeds '
        f'{", ".join(map(str, args.seeds))}; differences are taken seed by seed. The CLIP has '
        f'been trained on PartScenes alone (`tools/experiments/pretrain_tiny_clip.py`), so what '
        f'it has of the other sets is what guessing gives. {args.steps} steps a run.',
        f'## Few shots\n\nColumns: set, shots of each class ({shots}).',
        few_shot_table(args, results),
    ]
    if args.base2new:
        parts += [
            f'## From base to new classes\n\n{max(args.shots)} shots of the first half of the '
            'classes; accuracy on it, on the other half, and their harmonic mean.',
            base_new_table(args, results),
        ]
    parts += [
        f'## Does the hyperbolic term move predictions?\n\nLatHAdapter with {max(args.shots)} '
        'shots, all in percent. *range*: range of the distance over the classes, of that of the '
        'cosine, as logits; *changed*: predictions that adding the distance changes; *differ*: '
        'predictions that differ between training with and without the hyperbolic losses; last, '
        'the same with the switch that makes the distance count.',
        term_table(args, results),
        command(),
        f'{versions()}; {args.threads} threads a run.',
    ]
    return '\n\n'.join(parts)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    args = parse_args(arguments)
    text = page(args, run_all(args))
    if args.out:
        write_table(args.out, args.work_dir.resolve().name, text)
    print(text)


if __name__ == '__main__':
    main()
