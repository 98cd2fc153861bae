r"""Adapt a segmentor to a new site by a handful of labeled images, and show what it gains.

    python tools/adapt.py configs/metaseg/maml_unet_nuclei.py CHECKPOINT --support site/support \
        --query site/query --predict site/new --out work_dirs/adapted

A folder holds images/NAME.jpg (or another suffix, the same for all) and masks/NAME.png, whose
pixels are the numbers of the classes as the model counts them, 255 for no label. That of --predict
needs no masks. Images of more than 8 bits, DICOM and NIfTI take --window LOW HIGH, the values that
become black and white, or --window auto.

The rate and the number of steps are those that do best on support images which are left out of the
learning in turn; --lr (with --steps) takes given ones and saves the time. A meta-trained model
(hyper_mm.MetaLearner, EpisodicSegmentor) starts from its own rate. Large images are learned from in
crops, many images in parts, so that memory is bounded.

Scores are those of the query; without one, each image of the support is segmented by a model that
has learned from the others. Into the folder --out go report.html (one page for those who will use
the model), metrics.json, the scores of each image (cases_*.csv), pictures, predictions/ (label
maps, overlays, confidence, and a table of the images, the least certain first), and adapted.pth
with adapted.py: `python tools/test.py OUT/adapted.py OUT/adapted.pth` tests the adapted model,
without any meta-learning around it.

A model of several tasks (hyper_mm.MultiTaskModel) is adapted to a new set of one of them by --task:
seg as above; cls with folders of one folder of images a class; det with images/ and
annotations.json (COCO). Where the classes differ, the last layers are new ones. Options of
pictures, crops and windows are of seg alone.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from options import add_config_options, default_device
from rich.console import Console
from rich.table import Table

OF_SEGMENTATION = ('predict', 'window', 'crop', 'no_augment', 'classes', 'spacing', 'pictures')
"""Options that are of no use where images are classified or boxes found."""


def parse_args(argv: list[str] | None = None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config of the trained model')
    add('checkpoint', help='its checkpoint')
    add('--support', type=Path, required=True, help='folder of the images to learn from')
    add('--query', type=Path, help='folder of other labeled images to test on')
    add('--predict', type=Path, metavar='FOLDER', help='folder of unlabeled images to segment')
    add('--task', choices=('cls', 'det', 'seg'), help='which task of a model of several')
    add('--steps', type=int, help="greatest number of steps (default: the model's, or 20)")
    add('--lr', type=float, help='rate of the steps (default: found on the support)')
    add('--rates', type=float, nargs='+', help='rates to try (default: around that of the model)')
    add('--window', nargs='+', metavar='VALUE', help='LOW HIGH, or auto: see above')
    add('--crop', type=int, default=512, help='greatest side to learn from (default: %(default)s)')
    add('--no-augment', action='store_true', help='learn without flips, turns and contrast')
    add('--folds', type=int, default=3, help='parts of the support left out in turn to find the '
        'rate; as many as images leaves out each (default: %(default)s)')  # fmt: skip
    add('--classes', nargs='+', help='names of the classes of the site, background first, where '
        'they are not those of the model: a new last layer is learned')  # fmt: skip
    add('--spacing', type=float, help='millimeters of a pixel, for distances in mm')
    add('--out', type=Path, default=Path('work_dirs/adapted'), help='default: %(default)s')
    add('--pictures', type=int, default=8, help='how many to draw (default: %(default)s)')
    add('--seed', type=int, default=0, help='of crops and augmentation (default: %(default)s)')
    add('--device', help='default: cuda where there is a GPU, cpu elsewhere')
    add_config_options(parser, 'changes to the config')
    return parser, parser.parse_args(argv)


def read_window(given: list[str] | None) -> tuple[float, float] | str | None:
    """The window of a command line.

    Raises:
        ValueError: If it is neither two numbers nor auto.
    """
    if given is None or given == ['auto']:
        return given[0] if given else None
    try:
        low, high = map(float, given)
    except ValueError:
        raise ValueError(f'--window must be LOW HIGH or auto, got {" ".join(given)}') from None
    if not -math.inf < low < high < math.inf:
        raise ValueError(f'--window: low must be below high, both finite, got {low:g} and {high:g}')
    return low, high


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser, args = parse_args(argv)
    try:
        adapt(parser, args)
    except KeyboardInterrupt:
        parser.exit(
            130, f'stopped before all was written to {args.out}; the same command starts anew\n'
        )


def adapt(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Does what the command line asks for; imports take seconds, and can be stopped, too."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from hyper_mm.engine.adaptation.report import number_of
    from hyper_mm.engine.adaptation.site_adaptation import Options, SiteAdaptation, table_of
    from hyper_mm.engine.adaptation.tasks import TaskAdaptation, single_task, task_names

    console = Console()
    try:
        options = Options(
            support=args.support, query=args.query, predict=args.predict, out=args.out,
            steps=args.steps, rate=args.lr, rates=args.rates, window=read_window(args.window),
            crop=args.crop, augment=not args.no_augment, folds=args.folds, pictures=args.pictures,
            spacing=args.spacing, classes=args.classes, device=args.device or default_device(),
            seed=args.seed,
        )  # fmt: skip
        check_task(parser, args)
        cfg = Config.fromfile(args.config)
        cfg.merge_from_dict(args.cfg_options or {})
        init_default_scope(cfg.get('default_scope', 'mmseg'))
        checkpoint, tasks = args.checkpoint, task_names(cfg)
        if args.task is not None:
            cfg, checkpoint = single_task(cfg, checkpoint, args.task, args.out)
        elif tasks:
            raise ValueError(f'--task must be given for a model of {", ".join(tasks)}')
        if args.task in ('cls', 'det'):
            adaptation = TaskAdaptation(cfg, checkpoint, args.task, options, console)
        else:
            adaptation = SiteAdaptation(cfg, checkpoint, options, console)
    except (
        ValueError,
        TypeError,
        RuntimeError,
        ImportError,
        OSError,
        AssertionError,  # mmcv's for an image that it cannot read
    ) as error:
        parser.error(str(error))
    try:
        scores = adaptation.run()
    except (ValueError, OSError) as error:  # a rate that diverges, a full disk
        parser.error(str(error))
    if scores['tried']:
        key = 'dice' if 'dice' in scores['tried'][0] else 'score'
        tried = table_of({(row['rate'], row['steps']): row[key] for row in scores['tried']})
        show(console, f'{key} of support images that were left out', tried)
    rate = 'the learned rates' if scores['rate'] is None else f'rate {scores["rate"]:g}'
    images = number_of(len(adaptation.support), 'image')
    title = f'{images}, {number_of(scores["steps"], "step")}, {rate}'
    rows = [[scores['how'], 'before', 'after']]
    for name in scores['before']:
        rows.append([name, *(f'{scores[when][name]:.2f}' for when in ('before', 'after'))])
    show(console, title, rows)
    if args.task in ('cls', 'det'):
        console.print(f'adapted model: {args.out}/adapted.pth', markup=False, soft_wrap=True)
        return
    console.print(f'report: {args.out}/report.html', markup=False, soft_wrap=True)
    if scores['predicted']:
        console.print(f'predictions: {args.out}/predictions', markup=False, soft_wrap=True)
    command = f'python tools/test.py {args.out}/adapted.py {args.out}/adapted.pth'
    console.print(command, markup=False, soft_wrap=True)  # in one line, to be copied


def check_task(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses options of segmentation beside a task that does not know them.

    Raises:
        ValueError: With the option.
    """
    if args.task not in ('cls', 'det'):
        return
    for name in OF_SEGMENTATION:
        if getattr(args, name) != parser.get_default(name):
            option = '--' + name.replace('_', '-')
            raise ValueError(f'{option} has no effect with --task {args.task}: leave it out')


def show(console: Console, title: str, rows: list[list[str]]) -> None:
    """Prints a table, its head first."""
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column)
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)


if __name__ == '__main__':
    main()
