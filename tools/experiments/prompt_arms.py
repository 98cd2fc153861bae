"""Prompts of LiteCLIP's text tower, and LatHAdapter on them: few shots, and base to new classes.

    python tools/experiments/prompt_arms.py --work-dir work_dirs/prompt_arms
        --out docs/tables/lathadapter_lite.md
    python tools/experiments/prompt_arms.py --arms zero-shot CoOp --seeds 1 --shots 4 --steps 3

The image tower is convolutional and frozen, so that prompts are of the texts alone and images are
encoded once, as they are (no augmentation). Sets: classes of Tiny ImageNet; the same images under
superclasses of BREEDS' hierarchy; the alphabets of Omniglot. **The image tower was trained on all
classes of ImageNet with labels**: nothing about these images is new to it, only the fit of the
texts is; Omniglot is new.

Each arm takes the learning rate of a grid that has the highest accuracy with four shots of 20 other
classes of Tiny ImageNet, which are not reported. The temperature of all arms, zero-shot included,
is the one of the least cross-entropy of the untrained model there. Runs and features are kept, and
used again where options and code are the same.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import random
import statistics
import time
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tables import command, markdown, standard_error, versions, write_table

if TYPE_CHECKING:
    from torch import Tensor, nn

WORDS = dict(type='CoOp', num_context=4, words='a photo of a')
DEEP = dict(WORDS, depth=6)
HEAD = dict(type='hyper_mm.LatHAdapterHead')
ARMS: dict[str, dict] = {
    'zero-shot': {},
    'LatHAdapter alone': dict(head=HEAD),
    'CoOp': dict(prompts=WORDS),
    'CoOp + LatHAdapter': dict(prompts=WORDS, head=HEAD),
    'deep prompts': dict(prompts=DEEP),
    'deep prompts + LatHAdapter': dict(prompts=DEEP, head=HEAD),
}
"""Prompts and head of each arm."""
PAIRS = {
    'LatHAdapter alone': 'zero-shot',
    'CoOp + LatHAdapter': 'CoOp',
    'deep prompts + LatHAdapter': 'deep prompts',
}
"""Arms with the head, and the same without it."""
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
BATCH = 128
"""Images of a step; all where there are fewer."""
POOL = 25
"""Images of a class that shots are drawn of; the others are tested."""


class Task(NamedTuple):
    """A set of images and class names.

    Attributes:
        names: The classes.
        train: Name of an image and its label, of which shots are drawn.
        test: The same of those that are tested.
    """

    names: list[str]
    train: list[tuple[str, int]]
    test: list[tuple[str, int]]

    def of(self, labels: list[int]) -> Task:
        """The part of some of the classes, numbered anew."""
        new = {label: number for number, label in enumerate(labels)}
        parts = [[(x, new[y]) for x, y in part if y in new] for part in (self.train, self.test)]
        return Task([self.names[label] for label in labels], *parts)


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--arms', nargs='+', default=list(ARMS), help='names of arms')
    parser.add_argument('--sets', nargs='+', default=['classes', 'superclasses', 'omniglot'])
    parser.add_argument('--shots', type=int, nargs='+', default=[1, 4, 16])
    parser.add_argument('--seeds', type=int, nargs='+', default=[1, 2, 3])
    parser.add_argument('--tune-seed', type=int, default=100)
    parser.add_argument('--steps', type=int, default=40)
    parser.add_argument('--classes', type=int, default=40, help='classes of Tiny ImageNet')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--data', type=Path, help='folder of the data sets')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/prompt_arms'))
    parser.add_argument('--out', type=Path, help='markdown file, written between its marks')
    args = parser.parse_args()
    args.data = args.data or Path(os.environ.get('HYPER_MM_DATA', 'data'))
    for name, given, known in (
        ('arms', args.arms, list(ARMS)),
        ('sets', args.sets, ['classes', 'superclasses', 'omniglot']),
    ):
        if not set(given) <= set(known):
            parser.error(f'--{name} must be some of {known}, got {given}')
    return args


def tiny_imagenet(folder: Path, count: int) -> tuple[Task, Task, list[str]]:
    """Some classes of Tiny ImageNet, 20 others, and the WordNet ids of the first."""
    from hyper_mm.datasets.image_folders import class_folders, images_below, read_names

    names = read_names(folder / 'train')
    ids = [sub.name for sub in class_folders(folder / 'train')]
    chosen = random.Random(0).sample(ids, count + 20)

    def task(part: list[str], kept: int | None = None) -> Task:
        train, test = [], []
        for label, wnid in enumerate(part):
            files = [str(x) for x in images_below(folder / 'train' / wnid)]
            train += [(file, label) for file in files[:POOL]]
            more = [str(x) for x in images_below(folder / 'val' / wnid)]
            test += [(file, label) for file in [*more, *files[POOL:]][:kept]]
        return Task([names[wnid] for wnid in part], train, test)

    reported = sorted(chosen[:count])
    return task(reported), task(sorted(chosen[count:]), 10), reported


def superclasses(classes: Task, ids: list[str], hierarchy: Path, depth: int = 3) -> Task:
    """The same images under the superclasses that have two classes or more."""
    from hyper_mm.datasets.breeds import ancestors_at, node_names

    above, members = ancestors_at(hierarchy, depth), defaultdict(list)
    for label, wnid in enumerate(ids):
        if wnid in above:
            members[above[wnid]].append(label)
    kept = sorted(node for node, labels in members.items() if len(labels) > 1)
    number = {label: i for i, node in enumerate(kept) for label in members[node]}
    names, found = node_names(hierarchy), []
    for part in (classes.train, classes.test):
        found.append([(x, number[y]) for x, y in part if y in number])
    return Task([names[node] for node in kept], *found)


def omniglot(path: Path, each: int = 60) -> Task:
    """Alphabets of Omniglot, ``each`` images to draw shots of and as many to test."""
    with zipfile.ZipFile(path) as file:
        files = defaultdict(list)
        for name in sorted(file.namelist()):
            if name.endswith('.png'):
                files[name.split('/')[-3]].append(f'{path}!{name}')
    names, train, test = sorted(files), [], []
    for label, name in enumerate(names):
        drawn = random.Random(label).sample(files[name], 2 * each)
        train += [(x, label) for x in drawn[:each]]
        test += [(x, label) for x in drawn[each:]]
    return Task([name.strip('_').replace('_', ' ') for name in names], train, test)


class Images:
    """Unit features of images, each computed once and kept in a file.

    Args:
        clip: The model.
        preprocess: Image to tensor.
        file: Where the features are kept; another key than ``key`` is not read.
        key: What they depend on.
    """

    def __init__(self, clip: nn.Module, preprocess, file: Path, key: dict) -> None:
        import torch

        self.clip, self.preprocess, self.file, self.key = clip, preprocess, file, key
        self.known: dict[str, Tensor] = {}
        if file.is_file():
            kept = torch.load(file, weights_only=True)
            self.known = kept['features'] if kept['key'] == key else {}

    def __call__(self, paths: list[str]) -> Tensor:
        """Features ``(N, D)`` of files, or of members of a zip, ``zip!member``."""
        import torch

        new = [path for path in dict.fromkeys(paths) if path not in self.known]
        for number, path in enumerate(new, 1):
            with torch.no_grad():
                image = self.clip.encode_image(self._read(path)[None])[0]
            self.known[path] = torch.nn.functional.normalize(image, dim=-1)
            if number % 500 == 0 or number == len(new):
                self.file.parent.mkdir(parents=True, exist_ok=True)
                torch.save(dict(features=self.known, key=self.key), self.file)
        return torch.stack([self.known[path] for path in paths])

    def _read(self, path: str) -> Tensor:
        from PIL import Image

        archive, _, member = path.partition('!')
        if not member:
            return self.preprocess(Image.open(path))
        with zipfile.ZipFile(archive) as file:
            return self.preprocess(Image.open(io.BytesIO(file.read(member))))


def build(arm: str, classes: int, scale: float) -> nn.Module:
    """The model of an arm, whose cosines are multiplied by ``scale``."""
    import torch

    from hyper_mm.registry import MODELS

    config = dict(type='hyper_mm.PromptedCLIP', clip=dict(model='lite-clip-b0'), **ARMS[arm])
    if 'head' in config:
        config['head'] = dict(config['head'], num_classes=classes, embed_dims=1280, tau=1 / scale)
    model = MODELS.build(config)
    with torch.no_grad():
        model.clip.logit_scale.fill_(math.log(scale))
    return model


def accuracy(model: nn.Module, images: Images, task: Task) -> float:
    """Top-1 of the tested images, in percent."""
    import torch

    model.eval().set_vocabulary(task.names)
    with torch.no_grad():
        logits = model.logits(images([x for x, _ in task.test]), model.text_features())
    right = logits.argmax(1) == torch.tensor([y for _, y in task.test])
    return 100 * right.float().mean().item()


def train(
    model: nn.Module, images: Images, task: Task, shots: int, rate: float, seed: int, steps: int
) -> float:
    """Trains a model on shots of a task.

    Returns:
        Median seconds of a step.
    """
    import torch

    from hyper_mm.datasets.shots import draw_shots

    drawn = draw_shots(task.train, shots, random.Random(seed))
    features = images([x for x, _ in drawn])
    labels = torch.tensor([y for _, y in drawn])
    model.train().set_vocabulary(task.names)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, rate, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps, pct_start=0.1
    )
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        rows = torch.randperm(len(labels))[:BATCH]
        losses = model.losses_of(features[rows], model.text_features(), labels[rows])
        optimizer.zero_grad()
        sum(value for name, value in losses.items() if name.startswith('loss')).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def run(
    arm: str, images: Images, task: Task, tests: list[Task], scale: float, shots: int, rate: float,
    seed: int, steps: int,
) -> dict:  # fmt: skip
    """Trains an arm and tests it.

    Args:
        arm: Name of the arm.
        images: Features of images.
        task: What is trained on.
        tests: What is tested, with the names of each.
        scale: Inverse temperature.
        shots: Images of each class.
        rate: Learning rate.
        seed: Seed of the draw, of initial values and of the batches.
        steps: Training steps.

    Returns:
        ``accuracy`` of each test, number of trained parameters, and seconds of a step.
    """
    import torch

    torch.manual_seed(seed)
    model = build(arm, len(task.names), scale)
    seconds = 0.0
    if ARMS[arm]:
        seconds = train(model, images, task, shots, rate, seed, steps)
    found = [accuracy(model, images, test) for test in tests]
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return dict(accuracy=found, trained=count, seconds=seconds)


def calibrated(images: Images, task: Task) -> float:
    """Inverse temperature of the least cross-entropy of the untrained model."""
    import torch

    model = build('zero-shot', len(task.names), 1.0).eval()
    model.set_vocabulary(task.names)
    labels = torch.tensor([y for _, y in task.test])
    with torch.no_grad():
        cosine = images([x for x, _ in task.test]) @ model.text_features().T
    scales = [2.0**power for power in range(2, 9)]
    return min(scales, key=lambda s: torch.nn.functional.cross_entropy(s * cosine, labels).item())


def main() -> None:
    """Command line."""
    args = parse_args()
    import torch
    from mmengine.logging import MMLogger

    from hyper_mm import lite_clip
    from hyper_mm.datasets.shots import half
    from hyper_mm.engine.records import key_of, load_result, save_result

    torch.set_num_threads(args.threads)
    MMLogger.get_instance('prompt_arms', log_level='WARNING')
    clip, preprocess, _ = lite_clip()
    images = Images(
        clip, preprocess, args.work_dir / 'features.pt', dict(data=str(args.data.resolve()))
    )
    classes, tuning, ids = tiny_imagenet(args.data / 'tiny_imagenet', args.classes)
    tasks = dict(classes=classes)
    if 'superclasses' in args.sets:
        hierarchy = args.data / 'imagenet_sample' / 'hierarchy' / 'modified'
        tasks['superclasses'] = superclasses(classes, ids, hierarchy)
    if 'omniglot' in args.sets:
        (archive,) = (args.data / 'omniglot').glob('*.zip')
        tasks['omniglot'] = omniglot(archive)
    for task in tasks.values():
        images([x for x, _ in [*task.train, *task.test]])
    scale = calibrated(images, tuning)
    print(f'scale {scale:g}', flush=True)

    def result(
        arm: str, name: str, task: Task, tests: list[Task], shots: int, rate: float, seed: int
    ) -> dict:
        options = dict(arm=ARMS[arm], name=name, shots=shots, rate=rate, seed=seed)
        key = key_of(dict(options, steps=args.steps, classes=args.classes, scale=scale))
        place = f'{list(ARMS).index(arm)}_{shots}shots_{rate:g}_{seed}.json'
        file = args.work_dir / name / place
        found = load_result(file, key)
        if found is None:
            found = run(arm, images, task, tests, scale, shots, rate, seed, args.steps)
            save_result(file, key, found)
        print(name, arm, f'{shots} shots, lr {rate:g}, seed {seed}:', json.dumps(found), flush=True)
        return found

    labels = range(len(classes.names))
    base, new = (classes.of(list(half(labels, part))) for part in ('base', 'new'))
    few, transfer, best = {}, {}, {}
    for arm in args.arms:
        best[arm], shots, seeds = 0.0, args.shots, args.seeds
        if ARMS[arm]:
            best[arm] = max(
                RATES,
                key=lambda rate, arm=arm: result(
                    arm, 'tune', tuning, [tuning], 4, rate, args.tune_seed
                )['accuracy'][0],
            )
        else:
            shots, seeds = args.shots[:1], args.seeds[:1]
        for name in args.sets:
            for count in shots:
                few[arm, name, count] = [
                    result(arm, name, tasks[name], [tasks[name]], count, best[arm], seed)
                    for seed in seeds
                ]
        transfer[arm] = [
            result(arm, 'base-to-new', base, [base, new], max(args.shots), best[arm], seed)
            for seed in seeds
        ]
    text = page(args, tasks, few, transfer, best, scale)
    print(text)
    if args.out:
        write_table(args.out, 'prompt_arms', text)


def page(
    args: argparse.Namespace, tasks: dict, few: dict, transfer: dict, best: dict, scale: float
) -> str:
    """Both tables, and what produced them."""

    def values(arm: str, name: str, shots: int) -> list[float]:
        shots = shots if ARMS[arm] else args.shots[0]
        return [found['accuracy'][0] for found in few[arm, name, shots]]

    columns = [(name, shots) for name in args.sets for shots in args.shots]
    rows = [['arm', 'trained', 'lr', *(f'{name}, {shots}' for name, shots in columns), 's/step']]
    gains = [['with the head minus without', *rows[0][3:-1], 'base', 'new', 'HM']]
    halves = [['arm', 'base', 'new', 'HM']]
    for arm in args.arms:
        found = few[arm, args.sets[0], args.shots[0]][0]
        shown = [f'{best[arm]:g}', f'{found["seconds"]:.2f}'] if ARMS[arm] else ['', '']
        cells = [standard_error(values(arm, *column)) for column in columns]
        rows.append([arm, f'{found["trained"]:,}', shown[0], *cells, shown[1]])
        halves.append([arm, *map(standard_error, parts_of(transfer[arm]))])
        other = PAIRS.get(arm)
        if other in args.arms:
            pairs = [(values(arm, *c), values(other, *c)) for c in columns]
            pairs += zip(parts_of(transfer[arm]), parts_of(transfer[other]))
            gains.append([arm, *(standard_error(paired(*pair)) for pair in pairs)])
    sets = ', '.join(
        f'{name}: {len(task.names)} classes, {len(task.test)} tested images'
        for name, task in tasks.items()
    )
    parts = [
        f'Top-1 in percent by set and shots of each class; inverse temperature {scale:g}. {sets}.',
        markdown(rows),
        f'From base to new classes, {max(args.shots)} shots of the first half of the classes:',
        markdown(halves),
    ]
    if len(gains) > 1:
        parts.append(markdown(gains))
    return '\n\n'.join([*parts, command(), f'{versions()}; {args.threads} threads.'])


def parts_of(found: list[dict]) -> list[list[float]]:
    """Accuracy of base classes, of new ones, and their harmonic mean, one value a seed."""
    base, new = zip(*(x['accuracy'] for x in found))
    return [list(base), list(new), [statistics.harmonic_mean(pair) for pair in zip(base, new)]]


def paired(own: list[float], other: list[float]) -> list[float]:
    """Differences by seed; a baseline without seeds has one value."""
    other = other if len(other) == len(own) else other * len(own)
    return [a - b for a, b in zip(own, other)]


if __name__ == '__main__':
    main()
