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
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from rich.progress import Progress

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[1])]

import few_shot  # noqa: E402
from compare_arms import spread, versions, write_table  # noqa: E402

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


def runner_args(args: argparse.Namespace, method: str, protocol: str, sets: list, arm: str = ''):
    """What tools/few_shot.py would be called with for one method, or for an arm of it."""
    host = method.removeprefix('lathadapter_')
    options = [*args.cfg_options, *ARMS.get(arm, [])]
    given = [
        f'--method={method}', f'--protocol={protocol}', f'--backbone={args.backbone}',
        '--datasets', *sets, f'--steps={args.steps}', f'--work-dir={args.work_dir}',
        f'--threads={args.threads}', f'--name={method}_{args.backbone}{arm and "+" + arm}',
    ]  # fmt: skip
    if host in TEACHERS:
        given.append(f'--teacher={TEACHERS[host]}')
    if method not in TEACHERS.values():
        given.append('--discard')
    return few_shot.parse_args([*given, *(['--cfg-options', *options] if options else [])])


def jobs(args: argparse.Namespace) -> list[tuple[tuple, Callable[[], list[float]]]]:
    """All runs, those that need a teacher last.

    Returns:
        Keys (method, arm, protocol, set, shots, seed), and functions that give the accuracies.
    """
    methods = [name for host in args.hosts for name in (host, f'lathadapter_{host}')]
    arms = [('zeroshot', '')] + [(name, '') for name in methods]
    arms += [(f'lathadapter_{host}', arm) for host in args.hosts for arm in ARMS]
    found = []
    for method, arm in arms:
        for protocol, sets in (('few_shot', args.sets), ('base2new', args.base2new)):
            if not sets or (arm and protocol != 'few_shot'):
                continue
            own = runner_args(args, method, protocol, sets, arm)
            few = protocol == 'few_shot'
            every = few and not arm and method != 'zeroshot'
            for shots in args.shots if every else [max(args.shots)]:
                for seed in args.seeds if method != 'zeroshot' else args.seeds[:1]:
                    term = few and method.startswith('lath') and shots == max(args.shots)
                    for name in sets:
                        tests = [(name, half) for half in (['all'] if few else ['base', 'new'])]
                        run = partial(few_shot.accuracies, own, name, tests, shots, seed, term)
                        found.append(((method, arm, protocol, name, shots, seed), run))
    return sorted(found, key=lambda job: job[1].args[0].teacher is not None)


def run_all(args: argparse.Namespace) -> dict[tuple, list[float]]:
    """Runs what is not done yet, and gives the accuracies of all."""
    todo, results = jobs(args), {}
    with Progress() as progress, ThreadPoolExecutor(args.jobs) as pool:
        task = progress.add_task('runs', total=len(todo))

        def work(job):
            results[job[0]] = job[1]()
            progress.advance(task)

        for taught in (False, True):  # the teachers of these are there then
            part = [job for job in todo if (job[1].args[0].teacher is not None) == taught]
            list(pool.map(work, part))
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
    lines = [header, ['---'] * len(header)]
    lines += [[x if isinstance(x, str) else spread(x) for x in row] for row in rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def few_shot_table(args: argparse.Namespace, results: dict[tuple, list[float]]) -> str:
    """Accuracy of each set and number of shots."""
    columns = [(name, shots) for name in args.sets for shots in args.shots]

    def cells(method: str) -> list[list[float]]:
        if method == 'zeroshot':
            most, seed = max(args.shots), args.seeds[0]
            return [results[method, '', 'few_shot', n, most, seed] for n, _ in columns]
        keys = [(method, '', 'few_shot', *column) for column in columns]
        return [[results[(*key, seed)][0] for seed in args.seeds] for key in keys]

    header = ['', *(f'{name}, {shots}' for name, shots in columns)]
    return markdown(header, lines_of(args, cells))


def base_new_table(args: argparse.Namespace, results: dict[tuple, list[float]]) -> str:
    """Accuracy on base and on new classes, and their harmonic mean seed by seed."""

    def cells(method: str) -> list[list[float]]:
        seeds = args.seeds[:1] if method == 'zeroshot' else args.seeds
        found = []
        for name in args.base2new:
            keys = [(method, '', 'base2new', name, max(args.shots), seed) for seed in seeds]
            base, new = zip(*(results[key] for key in keys))
            found += [list(base), list(new), list(map(few_shot.harmonic_mean, base, new))]
        return found

    header = ['', *(f'{name}, {x}' for name in args.base2new for x in ('base', 'new', 'HM'))]
    return markdown(header, lines_of(args, cells))


def differing(a: list[int], b: list[int]) -> float:
    """Share of predictions that differ, in percent."""
    return 100 * sum(x != y for x, y in zip(a, b)) / len(a)


def term_table(args: argparse.Namespace) -> str:
    """What the hyperbolic term does with the most shots."""
    shots, rows = max(args.shots), []
    for host in args.hosts:
        for name in args.sets:
            terms = {}
            for arm in ('', *ARMS):
                own = runner_args(args, f'lathadapter_{host}', 'few_shot', [name], arm)
                places = [
                    few_shot.test_folder(own, name, shots, s, name, 'all') for s in args.seeds
                ]
                terms[arm] = [json.loads((place / 'term.json').read_text()) for place in places]
            column = {arm: {k: [t[k] for t in ts] for k in ts[0]} for arm, ts in terms.items()}
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


def page(args: argparse.Namespace, results: dict[tuple, list[float]]) -> str:
    """The tables with what they show."""
    shots = ', '.join(map(str, args.shots))
    parts = [
        f'Top-1 accuracy in percent, mean and standard deviation over seeds '
        f'{", ".join(map(str, args.seeds))}; differences are taken seed by seed. The CLIP has '
        f'been trained on PartScenes alone (`tools/experiments/pretrain_tiny_clip.py`), so on the '
        f'other sets it starts at chance. {args.steps} steps a run.',
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
        term_table(args),
        f'`python {" ".join(sys.argv)}`',
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
