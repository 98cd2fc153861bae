"""CoOp's protocols with a prompted CLIP: trains, tests, and prints the tables of the papers.

    python tools/few_shot.py --method lathadapter_maple --protocol base2new --datasets dtd eurosat
    python tools/few_shot.py --method promptsrc --protocol few_shot --shots 1 2 4 8 16
    python tools/few_shot.py --method lathadapter_promptkd --teacher promptsrc --protocol few_shot
        --backbone clip-mini --datasets omniglot part-scenes --shots 1 4 16 --steps 100 --threads 1

base2new      16 shots of the first half of the classes; accuracy on them and on the rest
few_shot      shots of all classes; accuracy on all
cross_dataset 16 shots of ImageNet; accuracy on each of the other sets
domain_gen    16 shots of ImageNet; accuracy on each of its variants

A method is a config without its ending or the path of a config. The config of a set is
configs/METHOD_BACKBONE_SET.py where there is one; otherwise that of Caltech101, whose data set is
replaced by the set, or by a folder with one folder of images a class. The papers train shorter and
with fewer prompts between data sets: --cfg-options model.prompts.depth=3 and so on. Runs that are
finished are kept: the command resumes where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import sys
from pathlib import Path

import matplotlib
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import DATASETS, init_default_scope
from rich.console import Console
from rich.progress import Progress

sys.path.insert(0, str(Path(__file__).parent / 'experiments'))

from tool_process import run  # noqa: E402

from hyper_mm.datasets.few_shot import SETS  # noqa: E402

matplotlib.use('Agg')
TOOLS = Path(__file__).resolve().parent
CONFIGS = TOOLS.parent / 'configs' / 'lathadapter'
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
    add('--method', required=True, help='a config, or the first part of its name')
    add('--protocol', required=True, choices=list(DEFAULTS))
    add('--backbone', default='vit-b16', help='second part of the names of configs')
    add('--datasets', nargs='+', help='sets that are tested (default: those of the paper)')
    add('--source', default=SOURCE, help='set that is trained on where the others are only tested')
    add('--shots', type=int, nargs='+', default=[16])
    add('--seeds', type=int, nargs='+', default=[1, 2, 3])
    add('--teacher', help='method whose runs, of the same shots and seeds, teach (PromptKD)')
    add('--steps', type=int, help='steps of a run: few images are then seen in more epochs')
    add('--data-root', help="folder of the sets (default: the config's)")
    add('--work-dir', type=Path, default=Path('work_dirs/few_shot'))
    add('--name', help='folder of the runs in it (default: method and backbone)')
    add('--discard', action='store_true', help='delete checkpoints that have been tested')
    add('--threads', type=int, default=2, help='threads of a run')
    add('--cfg-options', nargs='+', action=DictAction, help='changes of all configs')
    args = parser.parse_args(arguments)
    args.datasets = args.datasets or DEFAULTS[args.protocol]
    needed = [*args.datasets, *([args.source] if is_transfer(args) else [])]
    for name in needed:
        known = name in SETS or Path(name).is_dir() or own_config(args, name)
        if not known:
            parser.error(
                f'{name} is neither a folder, nor one of {", ".join(SETS)}, nor has it a config '
                f'of {args.method}'
            )
        if not config_of(args, name).is_file():
            parser.error(f'--method {args.method}: no such config: {config_of(args, name)}')
    for name in ('steps', 'threads'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1')
    if args.name is None:
        path = Path(args.method)
        args.name = path.stem if path.suffix == '.py' else f'{args.method}_{args.backbone}'
    return args


def is_transfer(args: argparse.Namespace) -> bool:
    """Whether the protocol trains on one set and tests others."""
    return args.protocol in ('cross_dataset', 'domain_gen')


def own_config(args: argparse.Namespace, name: str) -> bool:
    """Whether the method has a config for this very set."""
    named = Path(args.method).suffix != '.py' and '/' not in name
    return named and (CONFIGS / f'{args.method}_{args.backbone}_{name}.py').is_file()


def config_of(args: argparse.Namespace, name: str) -> Path:
    """The config of the method for a set: its own, or the one whose set is replaced."""
    if Path(args.method).suffix == '.py':
        return Path(args.method)
    suffix = name if own_config(args, name) else 'caltech101'
    return CONFIGS / f'{args.method}_{args.backbone}_{suffix}.py'


def use_set(args: argparse.Namespace, cfg: Config, loader: str, name: str) -> None:
    """Makes a data loader of a config read a set or a folder."""
    if own_config(args, name):
        cfg[loader] = Config.fromfile(config_of(args, name))[loader]
    elif name in SETS:
        root = args.data_root or cfg[loader].dataset.data_root
        cfg[loader].dataset.update(name=name, data_root=root)
    else:
        cfg[loader].dataset.update(name='folders', data_root=name)


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
        The config. A method without labels (PromptKD) keeps its training data. Zero-shot CLIP has
        none.
    """
    cfg = Config.fromfile(config_of(args, train))
    use_set(args, cfg, 'test_dataloader', test)
    cfg.test_dataloader.dataset.update(split='test', subsample=half)
    if 'train_dataloader' in cfg:
        use_set(args, cfg, 'train_dataloader', train)
        if cfg.model.type != 'hyper_mm.PromptKD':
            subsample = 'base' if args.protocol == 'base2new' else 'all'
            cfg.train_dataloader.dataset.update(shots=shots, seed=seed, subsample=subsample)
    cfg.merge_from_dict(args.cfg_options or {})
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.randomness = dict(cfg.get('randomness', {}), seed=seed)
    if args.teacher:
        checkpoint = folder_of(teacher_args(args), train, shots, seed) / 'last_checkpoint'
        cfg.model.teacher_checkpoint = checkpoint.read_text().strip()
    if 'train_dataloader' in cfg and (cfg.model.get('head') or args.steps):
        init_default_scope(cfg.default_scope)
        trained = DATASETS.build(dict(cfg.train_dataloader.dataset, pipeline=[]))
        if cfg.model.get('head'):
            cfg.model.head.num_classes = len(trained.metainfo['classes'])
        if args.steps:
            set_steps(cfg, args.steps, len(trained))
    return cfg


def set_steps(cfg: Config, steps: int, images: int) -> None:
    """Changes the epochs of a config, and what is counted in them; rates change at each step.

    Args:
        cfg: The config, changed in place.
        steps: Steps that a run should have; it has them up to a part of an epoch.
        images: Number of training images.
    """
    loader = cfg.train_dataloader
    rounded = math.floor if loader.get('drop_last') else math.ceil
    each = max(rounded(images / loader.batch_size), 1)
    epochs = max(1, round(steps / each))
    ratio = epochs / cfg.train_cfg.max_epochs
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    cfg.default_hooks.checkpoint.interval = epochs
    for scheduler in cfg.param_scheduler:
        if 'T_max' in scheduler:
            scheduler.update(by_epoch=False, T_max=epochs * each)
        else:  # the first rate, for a twentieth of the run
            scheduler.update(by_epoch=False, end=max(2, epochs * each // 20))
    for hook in cfg.custom_hooks:
        if hook.type == 'hyper_mm.PromptAveragingHook':
            hook.update(mean=hook.mean * ratio, std=max(hook.std * ratio, 0.1))


def folder_of(args: argparse.Namespace, train: str, shots: int, seed: int) -> Path:
    """Folder of a run."""
    folder = args.work_dir / args.name / args.protocol / Path(train).name
    return folder / f'{shots}shots_seed{seed}'


def teacher_args(args: argparse.Namespace) -> argparse.Namespace:
    """Arguments of the teacher's runs; its checkpoints are kept."""
    name = f'{args.teacher}_{args.backbone}'
    return argparse.Namespace(
        **{**vars(args), 'method': args.teacher, 'name': name, 'teacher': None}
        | dict(cfg_options=None, discard=False)
    )


def train_once(args: argparse.Namespace, train: str, shots: int, seed: int) -> Path:
    """Trains, unless it is done, the teacher before.

    Returns:
        Path of the checkpoint.
    """
    if args.teacher:
        train_once(teacher_args(args), train, shots, seed)
    folder = folder_of(args, train, shots, seed)
    if not (folder / 'done').is_file():
        folder.mkdir(parents=True, exist_ok=True)
        cfg = run_config(args, train, train, 'all', shots, seed)
        if 'train_dataloader' not in cfg:
            nothing = folder / 'nothing.pth'  # what zero-shot CLIP has learned
            torch.save(dict(state_dict={}), nothing)
            return nothing
        cfg.dump(folder / 'train_config.py')
        arguments = [folder / 'train_config.py', '--work-dir', folder, '--resume', '--seed', seed]
        run(TOOLS / 'train.py', arguments, folder / 'train.log', args.threads)
        (folder / 'done').touch()
    return Path((folder / 'last_checkpoint').read_text().strip())


def accuracies(
    args: argparse.Namespace,
    train: str,
    tests: list[tuple[str, str]],
    shots: int,
    seed: int,
    term: bool = False,
) -> list[float]:
    """Trains, unless it is done, and tests, unless it is done.

    Args:
        args: Parsed arguments.
        train: Set that is trained on.
        tests: Sets, and the classes of each: ``'all'``, ``'base'`` or ``'new'``.
        shots: Images of each class.
        seed: Seed of the shots and of the run.
        term: Whether to measure the hyperbolic term of each test, too (``term.json``).

    Returns:
        Top-1 accuracy of each test in percent.
    """
    found = []
    checkpoint = None
    for test, half in tests:
        folder = test_folder(args, train, shots, seed, test, half)
        metrics, wanted = folder / 'metrics.json', folder / 'term.json'
        if not metrics.is_file() or (term and not wanted.is_file()):
            checkpoint = train_once(args, train, shots, seed)
            folder.mkdir(parents=True, exist_ok=True)
            cfg = run_config(args, train, test, half, shots, seed)
            cfg.dump(folder / 'config.py')
            partial = folder / 'partial.json'
            start = [folder / 'config.py', checkpoint, '--work-dir', folder]
            if term and not wanted.is_file():
                tool = TOOLS / 'experiments' / 'hyperbolic_term.py'
                run(tool, [*start, '--out', partial], folder / 'term.log', args.threads)
                partial.replace(wanted)
            arguments = [*start, '--out', partial, '--out-item', 'metrics']
            run(TOOLS / 'test.py', arguments, folder / 'test.log', args.threads)
            partial.replace(metrics)  # a file that is there is whole
        found.append(json.loads(metrics.read_text())['accuracy/top1'])
    if args.discard and checkpoint is not None:
        for path in (checkpoint, checkpoint.parent / 'last_checkpoint', checkpoint.parent / 'done'):
            path.unlink(missing_ok=True)
    return found


def test_folder(
    args: argparse.Namespace, train: str, shots: int, seed: int, test: str, half: str
) -> Path:
    """Folder of a test."""
    return folder_of(args, train, shots, seed) / f'test_{Path(test).name}_{half}'


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
    transfer = is_transfer(args)
    tests = [[(name, half) for half in halves] for name in args.datasets]
    if transfer:  # one run, many tests
        tests = [[pair for pairs in tests for pair in pairs]]
    jobs = [(pairs, shots, seed) for shots in args.shots for seed in args.seeds for pairs in tests]
    results = {}
    with Progress() as progress:
        for pairs, shots, seed in progress.track(jobs, description='runs'):
            train = args.source if transfer else pairs[0][0]
            found = accuracies(args, train, pairs, shots, seed)
            for (name, half), value in zip(pairs, found):
                results[name, shots, half, seed] = value
                progress.console.print(
                    f'{name}, {shots} shots, {half} classes, seed {seed}: {value:.2f}'
                )
    rows = table(args.protocol, results)
    out = args.work_dir / args.name / args.protocol
    with (out / 'table.csv').open('w', newline='') as file:
        csv.writer(file).writerows(rows)
    (out / 'table.md').write_text(markdown(rows) + '\n')
    plot(rows, out / 'table.png')
    Console().print(markdown(rows), markup=False, soft_wrap=True)


if __name__ == '__main__':
    main()
