"""CoOp's protocols with a prompted CLIP: trains, tests, and prints the tables of the papers.

    python tools/few_shot.py --method lathadapter_maple --protocol base2new --datasets dtd eurosat
    python tools/few_shot.py --method promptsrc --protocol few_shot --shots 1 2 4 8 16

base2new      16 shots of the first half of the classes; accuracy on them and on the rest
few_shot      shots of all classes; accuracy on all
cross_dataset 16 shots of ImageNet; accuracy on each of the other sets
domain_gen    16 shots of ImageNet; accuracy on each of its variants

A method is a config without its ending (`configs/METHOD_vit-b16_caltech101.py`) or the path of a
config; its data set is replaced. The papers train shorter and with fewer prompts between data sets:
--cfg-options model.prompts.depth=3 and so on. Instead of a set, a folder with one folder of images
a class will do. Runs that are finished are kept: the command resumes where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from pathlib import Path

import matplotlib
from mmengine.config import Config, DictAction
from rich.console import Console
from rich.progress import Progress

sys.path.insert(0, str(Path(__file__).parent / 'analysis_tools'))

from compare_arms import run  # noqa: E402

from hyper_mm.datasets.few_shot import SETS, CoOpFewShotDataset  # noqa: E402

matplotlib.use('Agg')
TOOLS = Path(__file__).resolve().parent
VARIANTS = [name for name in SETS if name.startswith('imagenet') and name != 'imagenet']
TARGETS = [name for name in SETS if not name.startswith('imagenet')]
DEFAULTS = {
    'base2new': ['imagenet', *TARGETS],
    'few_shot': ['imagenet', *TARGETS],
    'cross_dataset': TARGETS,
    'domain_gen': VARIANTS,
}
"""Protocols, and the sets that each is tested on."""
SOURCE = 'imagenet'


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--method', required=True, help='a config, or its name up to _vit-b16_caltech101.py')
    add('--protocol', required=True, choices=list(DEFAULTS))
    add('--datasets', nargs='+', help='sets that are tested (default: those of the paper)')
    add('--source', default=SOURCE, help='set that is trained on where the others are only tested')
    add('--shots', type=int, nargs='+', default=[16])
    add('--seeds', type=int, nargs='+', default=[1, 2, 3])
    add('--data-root', help="folder of the sets (default: the config's)")
    add('--work-dir', type=Path, default=Path('work_dirs/few_shot'))
    add('--threads', type=int, default=2, help='threads of a run')
    add('--cfg-options', nargs='+', action=DictAction, help='changes of all configs')
    args = parser.parse_args(arguments)
    path = Path(args.method)
    if path.suffix != '.py':
        path = TOOLS.parent / 'configs' / f'{args.method}_vit-b16_caltech101.py'
    if not path.is_file():
        parser.error(f'--method {args.method}: no such config: {path}')
    args.config = path
    args.datasets = args.datasets or DEFAULTS[args.protocol]
    for name in (*args.datasets, args.source):
        if name not in SETS and not Path(name).is_dir():
            parser.error(f'{name} is neither a folder nor one of {", ".join(SETS)}')
    return args


def data_of(name: str, root: str) -> dict:
    """Arguments of :class:`hyper_mm.CoOpFewShotDataset` for a set or a folder."""
    if name in SETS:
        return dict(name=name, data_root=root)
    return dict(name='folders', data_root=name)


def run_config(args: argparse.Namespace, train: str, test: str, half: str, shots: int, seed: int):
    """The config of one run.

    Args:
        args: Parsed arguments.
        train: Set that is trained on.
        test: Set that is tested.
        half: Classes of the test: ``'all'``, ``'base'`` or ``'new'``.
        shots: Images of each class.
        seed: Seed of the shots and of the run.

    Returns:
        The config. A method without labels (PromptKD) keeps its training data.
    """
    cfg = Config.fromfile(args.config)
    root = args.data_root or cfg.train_dataloader.dataset.data_root
    cfg.merge_from_dict(args.cfg_options or {})
    trained = cfg.train_dataloader.dataset
    trained.update(data_of(train, root))
    if cfg.model.type != 'hyper_mm.PromptKD':
        subsample = 'base' if args.protocol == 'base2new' else 'all'
        trained.update(shots=shots, seed=seed, subsample=subsample)
    cfg.test_dataloader.dataset.update(data_of(test, root), split='test', subsample=half)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.randomness = dict(cfg.get('randomness', {}), seed=seed)
    if cfg.model.get('head'):
        options = {k: v for k, v in trained.items() if k not in ('type', 'pipeline')}
        cfg.model.head.num_classes = len(CoOpFewShotDataset(**options).metainfo['classes'])
    return cfg


def accuracy(args: argparse.Namespace, train: str, test: str, half: str, shots: int, seed: int):
    """Trains, unless it is done, and tests, unless it is done.

    Returns:
        Top-1 accuracy in percent.
    """
    folder = args.work_dir / args.config.stem / args.protocol / Path(train).name
    folder = folder / f'{shots}shots_seed{seed}'
    test_dir = folder / f'test_{Path(test).name}_{half}'
    metrics = test_dir / 'metrics.json'
    if metrics.is_file():
        return json.loads(metrics.read_text())['accuracy/top1']
    test_dir.mkdir(parents=True, exist_ok=True)
    cfg = run_config(args, train, test, half, shots, seed)
    done, path = folder / 'done', test_dir / 'config.py'
    cfg.dump(path)
    if not done.is_file():
        arguments = [path, '--work-dir', folder, '--resume', '--seed', seed]
        run(TOOLS / 'train.py', arguments, folder / 'train.log', args.threads)
        done.touch()
    checkpoint = (folder / 'last_checkpoint').read_text().strip()
    partial = test_dir / 'partial.json'
    arguments = [path, checkpoint, '--work-dir', test_dir, '--out', partial, '--out-item']
    run(TOOLS / 'test.py', [*arguments, 'metrics'], test_dir / 'test.log', args.threads)
    partial.replace(metrics)  # a file that is there is whole
    return json.loads(metrics.read_text())['accuracy/top1']


def harmonic_mean(base: float, new: float) -> float:
    """``2 b n / (b + n)``, and 0 where both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0


def table(protocol: str, results: dict[tuple[str, int, str, int], float]) -> list[list]:
    """Rows of the table, the header first.

    Args:
        protocol: The protocol.
        results: Accuracies by set, shots, half and seed.

    Returns:
        For each number of shots a row for each set, of means over seeds, and their average; the
        harmonic mean of the average row is that of its averages, as in the papers.
    """
    halves = ['base', 'new'] if protocol == 'base2new' else ['all']
    several = len(halves) > 1
    rows = [['shots', 'set', *(halves if several else ['accuracy']), *['HM'][: int(several)]]]
    for shots in sorted({key[1] for key in results}):
        sets = list(dict.fromkeys(key[0] for key in results if key[1] == shots))
        means = {
            name: [
                statistics.mean(v for k, v in results.items() if k[:3] == (name, shots, half))
                for half in halves
            ]
            for name in sets
        }
        means['average'] = [statistics.mean(column) for column in zip(*means.values())]
        for name, values in means.items():
            mean = [harmonic_mean(*values)] if several else []
            rows.append([shots, Path(name).name, *values, *mean])
    return rows


def markdown(rows: list[list]) -> str:
    """The table as text."""
    lines = [[f'{x:.2f}' if isinstance(x, float) else str(x) for x in row] for row in rows]
    lines.insert(1, ['---'] * len(rows[0]))
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def plot(rows: list[list], path: Path) -> None:
    """Draws accuracy (the last column) over shots for each set, or bars for one number of shots."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    names = list(dict.fromkeys(row[1] for row in rows[1:]))
    if len({row[0] for row in rows[1:]}) > 1:
        for name in names:
            points = [(row[0], row[-1]) for row in rows[1:] if row[1] == name]
            axes.plot(*zip(*points), marker='o', label=name, lw=3 if name == 'average' else 1)
        axes.set_xlabel('shots')
        axes.legend(fontsize='small')
    else:
        axes.bar(names, [row[-1] for row in rows[1:]])
        axes.tick_params(axis='x', rotation=60)
    axes.set_ylabel(f'{rows[0][-1]} (%)')
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    args = parse_args(arguments)
    halves = ('base', 'new') if args.protocol == 'base2new' else ('all',)
    transfer = args.protocol in ('cross_dataset', 'domain_gen')
    jobs = [
        (name, shots, half, seed)
        for shots in args.shots
        for seed in args.seeds
        for name in args.datasets
        for half in halves
    ]
    results = {}
    with Progress() as progress:
        for job in progress.track(jobs, description='runs'):
            name, shots, half, seed = job
            train = args.source if transfer else name
            results[job] = accuracy(args, train, name, half, shots, seed)
            progress.console.print(
                f'{name}, {shots} shots, {half} classes, seed {seed}: {results[job]:.2f}'
            )
    rows = table(args.protocol, results)
    out = args.work_dir / args.config.stem / args.protocol
    with (out / 'table.csv').open('w', newline='') as file:
        csv.writer(file).writerows(rows)
    (out / 'table.md').write_text(markdown(rows) + '\n')
    plot(rows, out / 'table.png')
    Console().print(markdown(rows), markup=False, soft_wrap=True)


if __name__ == '__main__':
    main()
