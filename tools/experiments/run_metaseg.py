"""Domains left out: frequency mixing, episodes, boundary contrast, and adaptation, as tables.

    python tools/experiments/run_metaseg.py --jobs 2 --out work_dirs/metaseg.md
    python tools/experiments/run_metaseg.py --targets drive --arms plain episodes --seeds 0

A small U-Net is trained on the other domains of a target and tested on all images of the target: as
it is, and after a few gradient steps on 1 or 5 of them; see metaseg_arms.py for domains and arms.
Data: nuclei, membrane and fundus_vessel in data/, or where HYPER_MM_DATA says. Six images pass
backwards in a step of any arm. Finished runs are kept: the command resumes where it stopped.
The command of docs/tables/metaseg.md stands below its tables (all targets, 200 steps, 1.5 hours).
Marks in the file of --out: <!-- metaseg --> (last folder of --work-dir); see compare_arms.py.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from metaseg_arms import (
    ADAPTED,
    ARMS,
    CHANNELS,
    CROP,
    DOMAINS,
    INNER_LR,
    LR,
    OTHER_STRUCTURE,
    QUERIES,
    SHOTS,
    STAGES,
    TEST_CROP,
    build_config,
    place,
    run_folder,
    test_configs,
)
from rich.console import Console
from rich.progress import Progress
from tables import command, spread, versions, write_table

BANK_TOOL = Path(__file__).resolve().parents[1] / 'dataset_converters' / 'amplitude_bank.py'
LIBRARIES = ['mmseg.apis', 'hyper_mm.models', 'hyper_mm.datasets']
"""What is loaded once for all runs: it takes longer than a short training."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    default = ['stained_tissue', 'membrane', 'chasedb1']
    add('--targets', nargs='+', choices=DOMAINS, default=default, help='domains left out')
    add('--arms', nargs='+', choices=ARMS, default=list(ARMS))
    add('--seeds', type=int, nargs='+', default=[0, 1, 2])
    add('--iterations', type=int, default=250, help='steps of a training')
    add('--steps', type=int, default=10, help='gradient steps of an adaptation')
    add('--episodes', type=int, default=4, help='supports for each seed')
    add('--work-dir', type=Path, default=Path('work_dirs/metaseg'))
    add('--out', type=Path, help='markdown file, written between its marks')
    add('--jobs', type=int, default=2, help='runs at a time')
    add('--threads', type=int, default=1, help='threads of a run')
    args = parser.parse_args(arguments)
    for name in ('iterations', 'steps', 'episodes', 'jobs', 'threads'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1, got {getattr(args, name)}')
    return args


def jobs_of(args: argparse.Namespace) -> list[tuple[str, str, int]]:
    """Target, arm and seed of each run."""
    return [
        (target, arm, seed)
        for seed in args.seeds
        for target in args.targets
        for arm in args.arms
        if target not in OTHER_STRUCTURE or arm in ('plain', *ADAPTED)
        if len(DOMAINS[target]) > 1 or arm not in ADAPTED  # one domain is no set of tasks
    ]


def make_bank(target: str, folder: Path) -> Path:
    """Writes the amplitudes of the training domains of a target, which the target has no part in.

    Where there is one training domain alone, each of its images is a style of its own. A bank of
    the same images is used again.
    """
    from hyper_mm.engine.records import FolderLock, key_of, name_of
    from hyper_mm.engine.runs import run_script

    names = DOMAINS[target]
    places = {name: place(name) for name in names}
    folders = {name: root / images for name, (root, images, _) in places.items()}
    if len(names) == 1:
        folders = {f'images of {names[0]}': folders[names[0]]}
    states = {}
    for name, images in folders.items():
        files = sorted(path for path in images.rglob('*') if path.is_file())
        states[name] = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    parts = {name: [list(map(str, state)) for state in found] for name, found in states.items()}
    file = folder / target / f'bank_{name_of(key_of({}, images=parts))}.npz'
    with FolderLock(file) as lock:
        if not file.is_file():
            part = file.with_suffix('.part')
            given = [f'{name}={images}' for name, images in folders.items()]
            how = dict(preload=LIBRARIES, lock=lock)  # the first call loads for all
            run_script(BANK_TOOL, [*given, '-o', part], file.with_suffix('.log'), **how)
            part.replace(file)
    return file


def wrapped(checkpoint: Path) -> Path:
    """Writes the weights of a segmentor as those of the model of a meta-learner."""
    import torch

    from hyper_mm.checkpoints import load_from_local

    weights = load_from_local(str(checkpoint), map_location='cpu')['state_dict']
    file = checkpoint.with_name('wrapped.pth')
    torch.save(dict(state_dict={f'model.{k}': v for k, v in weights.items()}), file)
    return file


def key(target: str, arm: str, seed: int, args: argparse.Namespace) -> dict[str, str]:
    """Key of a run: the configs of its training and of its tests, with what they read."""
    from hyper_mm.engine.records import key_of

    cfg = build_config(target, arm, seed, args)
    tests = {
        name: [dict(part) for part in (test.model, test.test_dataloader, test.test_cfg)]
        for name, test in test_configs(cfg, target, arm, seed, args).items()
    }
    return key_of(cfg, tests=tests)


def train_and_test(target: str, arm: str, seed: int, args: argparse.Namespace) -> dict:
    """Trains and tests in this process.

    Args:
        target: Domain left out.
        arm: Name of the arm.
        seed: Seed of the run.
        args: What :func:`parse_args` gives, with the ``banks``.

    Returns:
        Dice by the name of the test, and seconds of the training and of the tests.
    """
    from hyper_mm.engine.launch import build_runner
    from hyper_mm.engine.records import safe_name

    folder = run_folder(target, arm, seed, args)
    cfg = build_config(target, arm, seed, args)
    start = time.time()
    build_runner(cfg).train()
    trained = time.time()
    checkpoint = Path((folder / 'last_checkpoint').read_text().strip())
    inside = wrapped(checkpoint) if arm == 'plain' else checkpoint
    dice = {}
    for name, test in test_configs(cfg, target, arm, seed, args).items():
        test.load_from = str(checkpoint if name == '0-shot' else inside)
        test.work_dir = str(folder / safe_name(name))
        dice[name] = build_runner(test).test()['mDice']
    return dict(dice=dice, train_seconds=trained - start, test_seconds=time.time() - trained)


def result_of(job: tuple[str, str, int], args: argparse.Namespace) -> dict:
    """Result of a run, which is kept in ``result.json``: made in a process of its own, or read.

    Args:
        job: Target, arm and seed.
        args: What :func:`parse_args` gives, with the ``banks``.

    Returns:
        See :func:`train_and_test`.

    Raises:
        RuntimeError: If the run fails, or another process is at it.
    """
    from hyper_mm.engine.records import claim, load_result, save_result
    from hyper_mm.engine.runs import call

    folder = run_folder(*job, args)
    file, own = folder / 'result.json', key(*job, args)
    result = load_result(file, own)
    if result is None:
        with claim(folder, own) as lock:
            result = load_result(file, own)
            if result is None:
                how = dict(threads=args.threads, preload=LIBRARIES, lock=lock)
                name = ', '.join(map(str, job))
                done = call(train_and_test, *job, args, log=folder / 'run.log', name=name, **how)
                result = done.value
                save_result(file, own, result)
    return result


def all_foreground(target: str) -> float:
    """Dice in percent of calling every pixel foreground, over all images of a target."""
    import mmcv
    import numpy as np

    root, _, labels = place(target)
    counts = np.zeros(256, np.int64)
    for file in sorted((root / labels).rglob('*.png')):
        label = mmcv.imread(file, flag='unchanged', backend='pillow')
        counts += np.bincount(label.ravel(), minlength=256)
    return 200 * counts[1] / (2 * counts[1] + counts[0])


def table(
    title: str, targets: list[str], rows: dict[str, list[list[float] | None]], base: str
) -> str:
    """A markdown table.

    Args:
        title: Head of its first column.
        targets: Heads of the others.
        rows: For each row, a value for each seed in each column; None for an empty cell.
        base: Row over which the others gain, seed by seed.
    """
    head = ' | '.join(f'{name} | gain' for name in targets)
    lines = [f'| {title} | {head} |', '|---' * (2 * len(targets) + 1) + '|']
    for name, cells in rows.items():
        parts = []
        for cell, other in zip(cells, rows[base]):
            gain = ''
            if cell is not None and other is not None and name != base and len(cell) == len(other):
                gain = spread([a - b for a, b in zip(cell, other)])
            parts += [spread(cell) if cell is not None else '', gain]
        lines.append(f'| {name} | {" | ".join(parts)} |')
    return '\n'.join(lines)


def report(args: argparse.Namespace, results: dict[tuple[str, str, int], dict]) -> str:
    """The tables.

    Args:
        args: What :func:`parse_args` gives.
        results: Those of :func:`train_and_test`, by target, arm and seed.
    """

    def cells(targets: list[str], arm: str, test: str) -> list[list[float] | None]:
        found = []
        for target in targets:
            runs = [results.get((target, arm, seed)) for seed in args.seeds]
            values = [run['dice'][test] for run in runs if run and test in run['dice']]
            found.append(values or None)
        return found

    parts = []
    same = [target for target in args.targets if target not in OTHER_STRUCTURE]
    rows = {arm: cells(same, arm, '0-shot') for arm in args.arms if arm not in ADAPTED}
    if same and 'plain' in rows:
        rows['all foreground'] = [[args.trivial[target]] for target in same]
        parts.append(f'## As trained\n\n{table("arm", same, rows, "plain")}')
    for shots in SHOTS:
        tests = {}
        for arm in args.arms:
            for run in (r for (_, a, _), r in results.items() if a == arm):
                for test in run['dice']:
                    if test.endswith(f', {shots}-shot'):
                        tests[test.rpartition(',')[0]] = (arm, test)
        rows = {name: cells(args.targets, *where) for name, where in tests.items()}
        base = f'plain, fine-tuned at {INNER_LR:g}'
        if base in rows:
            text = table('method', args.targets, rows, base)
            parts.append(f'## Adapted to {shots} of its images\n\n{text}')
    return '\n\n'.join(parts)


def protocol(args: argparse.Namespace) -> str:
    """What was done, in words."""
    arms = '\n'.join(f'- {arm}: {what}' for arm, what in ARMS.items() if arm in args.arms)
    sources = '; '.join(f'{t} ({", ".join(DOMAINS[t])})' for t in args.targets)
    return f"""Dice of the foreground in percent, mean and standard deviation over the seeds.
Domains left out (trained on, each as often as the others): {sources}.

Reduced to what two cores finish: a U-Net of {STAGES} stages and {CHANNELS} channels with instance
norms, crops of {CROP} x {CROP}, {args.iterations} steps of Adam at {LR:g}. Six images pass
backwards in a step of any arm:

{arms}

As trained, the model segments all images of the domain left out, whole; gain is over plain
training. Membrane is another structure than nuclei, so it is only adapted to. Adaptation is
{args.steps} gradient steps at {INNER_LR:g} unless it says otherwise, or prototypes, on
{args.episodes} supports a seed, the same for all methods; {QUERIES} other images are segmented, all
in their central {TEST_CROP} x {TEST_CROP}; gain is over fine-tuning of the plain model at
{INNER_LR:g}. With one training site, each of its images counts as a style. All foreground is what
no learning at all gives."""


def run_all(args: argparse.Namespace) -> dict[tuple[str, str, int], dict]:
    """Does what is not done yet.

    Args:
        args: What :func:`parse_args` gives.

    Returns:
        Results, by target, arm and seed.

    Raises:
        RuntimeError: If a run fails.
    """
    from hyper_mm.engine.runs import in_parallel

    jobs = jobs_of(args)
    with Progress() as progress:
        task = progress.add_task('runs', total=len(jobs))

        def work(job: tuple[str, str, int]) -> dict:
            result = result_of(job, args)
            progress.advance(task)
            dice = ', '.join(f'{k} {v:.1f}' for k, v in result['dice'].items())
            progress.console.print(f'{", ".join(map(str, job))}: {dice}')
            return result

        return dict(zip(jobs, in_parallel(work, jobs, args.jobs)))


def main() -> None:
    """Command line."""
    args = parse_args()
    args.banks = {target: make_bank(target, args.work_dir) for target in args.targets}
    args.trivial = {target: all_foreground(target) for target in args.targets}
    results = run_all(args)
    text = report(args, results)
    Console().print(text, markup=False, soft_wrap=True)
    if args.out:
        seconds = [r['train_seconds'] + r['test_seconds'] for r in results.values()]
        write_table(
            args.out,
            args.work_dir.resolve().name,
            f'{protocol(args)}\n\n{text}\n\n'
            f'{command()}\n\n{versions()}; '
            f'{args.threads} threads a run, {sum(seconds) / len(seconds):.0f} s a run.',
        )


if __name__ == '__main__':
    main()
