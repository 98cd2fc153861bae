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
configs/lathadapter/METHOD_BACKBONE_SET.py where there is one; otherwise that of Caltech101, whose
data set is replaced by the set, or by a folder with one folder of images a class. Where the
papers' settings depend on the protocol, theirs are used (hyper_mm/engine/prompt_recipes.py). Runs
that are finished are kept, in a folder for each config, and used again where config, options,
data folder, teacher and code are the same: the command resumes where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from options import add_config_options
from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from mmengine.config import Config

TOOLS = Path(__file__).resolve().parent
CONFIGS = TOOLS.parent / 'configs' / 'lathadapter'
PROTOCOLS = ('base2new', 'few_shot', 'cross_dataset', 'domain_gen')
SOURCE = 'imagenet'
LIBRARIES = [
    'hyper_mm.engine.launch',
    'hyper_mm.models.classifiers.prompt_kd',
    'hyper_mm.models.heads.lath_adapter_head',
    'hyper_mm.datasets.few_shot',
    'mmpretrain.apis',
]
"""What is loaded once for all runs."""


def default_sets(protocol: str) -> list[str]:
    """Sets that the papers test a protocol on."""
    from hyper_mm.datasets.few_shot import SETS

    if protocol == 'domain_gen':
        return [name for name in SETS if name.startswith('imagenet') and name != 'imagenet']
    targets = [name for name in SETS if not name.startswith('imagenet')]
    return targets if protocol == 'cross_dataset' else ['imagenet', *targets]


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--method', required=True, help='a config, or the first part of its name')
    add('--protocol', required=True, choices=PROTOCOLS)
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
    add('--term', action='store_true', help="measure LatHAdapter's hyperbolic term, too")
    add('--json', type=Path, help='file of the single results, for other programs')
    add_config_options(parser, 'changes of all configs')
    args = parser.parse_args(arguments)
    from hyper_mm.datasets.few_shot import SETS

    args.datasets = args.datasets or default_sets(args.protocol)
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
    from mmengine.config import Config

    from hyper_mm.datasets.few_shot import SETS

    if own_config(args, name):
        cfg[loader] = Config.fromfile(config_of(args, name))[loader]
    elif name in SETS:
        root = args.data_root or cfg[loader].dataset.data_root
        cfg[loader].dataset.update(name=name, data_root=root)
    else:
        cfg[loader].dataset.update(name='folders', data_root=str(Path(name).resolve()))


def run_config(
    args: argparse.Namespace,
    train: str,
    test: str,
    half: str,
    shots: int,
    seed: int,
    teacher: Path | None = None,
) -> Config:
    """The config of one run.

    Args:
        args: Parsed arguments.
        train: Set that is trained on.
        test: Set that is tested.
        half: Classes of the test: ``'all'``, ``'base'`` or ``'new'``.
        shots: Images of each class.
        seed: Seed of the shots and of the run.
        teacher: Checkpoint of the teacher.

    Returns:
        The config. A method without labels (PromptKD) keeps its training data. Zero-shot CLIP has
        none.
    """
    from mmengine.config import Config

    from hyper_mm.engine.prompt_recipes import apply_recipe

    cfg = Config.fromfile(config_of(args, train))
    use_set(args, cfg, 'test_dataloader', test)
    cfg.test_dataloader.dataset.update(split='test', subsample=half)
    if 'train_dataloader' in cfg:
        use_set(args, cfg, 'train_dataloader', train)
        if cfg.model.type != 'hyper_mm.PromptKD':
            subsample = 'base' if args.protocol == 'base2new' else 'all'
            cfg.train_dataloader.dataset.update(shots=shots, seed=seed, subsample=subsample)
    apply_recipe(cfg, args.protocol, train, shots)
    cfg.merge_from_dict(args.cfg_options or {})
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.randomness = dict(cfg.get('randomness', {}), seed=seed)
    if teacher is not None:
        cfg.model.teacher_checkpoint = str(teacher)
    if 'train_dataloader' in cfg and (cfg.model.get('head') or args.steps):
        images, classes = size_of(cfg.default_scope, json.dumps(cfg.train_dataloader.dataset))
        if cfg.model.get('head'):
            cfg.model.head.num_classes = classes
        if args.steps:
            set_steps(cfg, args.steps, images)
    return cfg


@functools.lru_cache(maxsize=256)
def size_of(scope: str, config: str) -> tuple[int, int]:
    """Number of images and of classes of a data set, whose config is given as json."""
    from mmengine.registry import DATASETS, init_default_scope

    init_default_scope(scope)
    data = DATASETS.build(dict(json.loads(config), pipeline=[]))
    return len(data), len(data.metainfo['classes'])


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
    end = max(2, epochs * each // 20)  # the first rate, for a twentieth of the run
    for scheduler in cfg.param_scheduler:
        if 'T_max' in scheduler:
            scheduler.update(
                by_epoch=False, begin=end - 1, T_max=epochs * each, end=end + epochs * each
            )
        else:  # its last step takes the factor back
            scheduler.update(by_epoch=False, end=end)
    for hook in cfg.custom_hooks:
        if hook.type == 'hyper_mm.PromptAveragingHook':
            hook.update(mean=hook.mean * ratio, std=max(hook.std * ratio, 0.1))


def place_of(name: str) -> str:
    """Name of the folder of a set: its own, or that of a data folder with a digest of its path."""
    from hyper_mm.datasets.few_shot import SETS
    from hyper_mm.engine.records import name_of, safe_name

    path = Path(name)
    if name in SETS or not path.is_dir():
        return safe_name(name)
    return safe_name(f'{path.name}-{name_of(dict(folder=str(path.resolve())))[:6]}')


def teacher_args(args: argparse.Namespace) -> argparse.Namespace:
    """Arguments of the teacher's runs; its checkpoints are kept."""
    name = f'{args.teacher}_{args.backbone}'
    return argparse.Namespace(
        **{**vars(args), 'method': args.teacher, 'name': name, 'teacher': None}
        | dict(cfg_options=None, discard=False)
    )


class Training(NamedTuple):
    """A training: its config, its key, its folder, and the checkpoint of its teacher."""

    config: Config
    key: dict[str, str]
    folder: Path
    teacher: Path | None


def training(args: argparse.Namespace, train: str, shots: int, seed: int) -> Training:
    """What a training is; a teacher is trained for it, unless that is done."""
    from hyper_mm.engine.records import key_of, name_of

    teacher = None
    if args.teacher:
        own = teacher_args(args)
        teacher = train_once(own, training(own, train, shots, seed))
    cfg = run_config(args, train, train, 'all', shots, seed, teacher)
    key = key_of(cfg)
    folder = args.work_dir / args.name / args.protocol / place_of(train)
    return Training(cfg, key, folder / f'{shots}shots_seed{seed}_{name_of(key)}', teacher)


def train_once(args: argparse.Namespace, job: Training) -> Path:
    """Trains, unless it is done.

    Returns:
        Path of the checkpoint.
    """
    from hyper_mm.engine.records import claim, load_result, save_result
    from hyper_mm.engine.runs import run_script

    folder, done = job.folder, job.folder / 'done.json'
    with claim(folder, job.key) as lock:
        if 'train_dataloader' not in job.config:
            return nothing_learned(folder)
        kept = load_result(done, job.key)
        if kept is not None and (folder / kept['checkpoint']).is_file():
            return folder / kept['checkpoint']
        job.config.dump(folder / 'train_config.py')
        seed = job.config.randomness.seed
        arguments = [folder / 'train_config.py', '--work-dir', folder, '--resume', '--seed', seed]
        how = dict(threads=args.threads, preload=LIBRARIES, lock=lock)
        run_script(TOOLS / 'train.py', arguments, folder / 'train.log', **how)
        named = (folder / 'last_checkpoint').read_text(encoding='utf-8').strip()
        checkpoint = folder / Path(named).name
        save_result(done, job.key, dict(checkpoint=checkpoint.name))
        return checkpoint


def nothing_learned(folder: Path) -> Path:
    """Writes the checkpoint of zero-shot CLIP, which has learned nothing."""
    import torch

    torch.save(dict(state_dict={}), folder / 'nothing.pth')
    return folder / 'nothing.pth'


def accuracies(
    args: argparse.Namespace, train: str, tests: list[tuple[str, str]], shots: int, seed: int
) -> list[dict]:
    """Trains, unless it is done, and tests, unless it is done.

    Args:
        args: Parsed arguments.
        train: Set that is trained on.
        tests: Sets, and the classes of each: ``'all'``, ``'base'`` or ``'new'``.
        shots: Images of each class.
        seed: Seed of the shots and of the run.

    Returns:
        For each test ``accuracy``, top-1 in percent, and with ``args.term`` the ``term`` that
        tools/experiments/hyperbolic_term.py measures.
    """
    from hyper_mm.engine.records import claim, key_of, load_result, name_of, save_result
    from hyper_mm.engine.runs import run_script

    job, checkpoint, found = training(args, train, shots, seed), None, []
    needed = {'metrics': TOOLS / 'test.py'}
    if args.term:
        needed['term'] = TOOLS / 'experiments' / 'hyperbolic_term.py'
    for test, half in tests:
        cfg = run_config(args, train, test, half, shots, seed, job.teacher)
        key = key_of(cfg, trained=job.key)
        folder = job.folder / f'test_{place_of(test)}_{half}_{name_of(key)}'
        results = {name: load_result(folder / f'{name}.json', key) for name in needed}
        missing = [name for name, result in results.items() if result is None]
        if missing:
            checkpoint = train_once(args, job)
            with claim(folder, key) as lock:
                cfg.dump(folder / 'config.py')
                for name in missing:
                    part = folder / 'part.json'
                    start = [folder / 'config.py', checkpoint, '--work-dir', folder, '--out', part]
                    more = ['--out-item', 'metrics'] if name == 'metrics' else []
                    how = dict(threads=args.threads, preload=LIBRARIES, lock=lock)
                    run_script(needed[name], [*start, *more], folder / f'{name}.log', **how)
                    results[name] = json.loads(part.read_text(encoding='utf-8'))
                    save_result(folder / f'{name}.json', key, results[name])
                    part.unlink()
        term = {'term': results['term']} if args.term else {}
        found.append(dict(accuracy=results['metrics']['accuracy/top1'], **term))
    if args.discard and checkpoint is not None:
        for path in (*job.folder.glob('*.pth'), job.folder / 'last_checkpoint'):
            path.unlink(missing_ok=True)
    return found


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
            mean = [float(statistics.harmonic_mean(values))] if several else []
            rows.append([shots, Path(name).name, *values, *mean])
    return rows


def markdown(rows: list[list]) -> str:
    """The table as text."""
    lines = [[f'{x:.2f}' if isinstance(x, float) else str(x) for x in row] for row in rows]
    lines.insert(1, ['---'] * len(rows[0]))
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def plot(rows: list[list], path: Path) -> None:
    """Draws accuracy (the last column) over shots for each set, or bars for one number of shots."""
    import matplotlib

    matplotlib.use('Agg')
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
    from hyper_mm.engine.records import write_text

    halves = ('base', 'new') if args.protocol == 'base2new' else ('all',)
    transfer = is_transfer(args)
    tests = [[(name, half) for half in halves] for name in args.datasets]
    if transfer:  # one run, many tests
        tests = [[pair for pairs in tests for pair in pairs]]
    jobs = [(pairs, shots, seed) for shots in args.shots for seed in args.seeds for pairs in tests]
    results, single = {}, []
    with Progress() as progress:
        for pairs, shots, seed in progress.track(jobs, description='runs'):
            train = args.source if transfer else pairs[0][0]
            found = accuracies(args, train, pairs, shots, seed)
            for (name, half), values in zip(pairs, found):
                results[name, shots, half, seed] = values['accuracy']
                single.append(dict(set=name, shots=shots, half=half, seed=seed, **values))
                progress.console.print(
                    f'{name}, {shots} shots, {half} classes, seed {seed}: {values["accuracy"]:.2f}'
                )
    rows = table(args.protocol, results)
    out = args.work_dir / args.name / args.protocol
    with (out / 'table.csv').open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows(rows)
    write_text(out / 'table.md', markdown(rows) + '\n')
    plot(rows, out / 'table.png')
    if args.json:
        write_text(args.json, json.dumps(single, indent=1))
    Console().print(markdown(rows), markup=False, soft_wrap=True)


if __name__ == '__main__':
    main()
