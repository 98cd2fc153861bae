"""Prompts of LiteCLIP's text tower, and LatHAdapter on them: few shots, and base to new classes.

    python tools/experiments/prompt_arms.py --work-dir work_dirs/prompt_arms
        --out docs/tables/lathadapter_lite.md
    python tools/experiments/prompt_arms.py --arms zero-shot CoOp --seeds 1 --shots 4 --steps 3

The image tower is convolutional and frozen, so that prompts are of the texts alone and images are
encoded once, as they are (no augmentation). Sets: classes of Tiny ImageNet; the same images under
superclasses of BREEDS' hierarchy; one image of each class of ImageNet under superclasses, where
shots and tests are of different classes; the alphabets of Omniglot; the drawn things of PartScenes.
**The image tower was trained on all classes of ImageNet with labels**: the classes of the first
three sets are known to it, only the fit of the texts is new; Omniglot and PartScenes are new.

Each arm takes the learning rate of a grid that has the highest accuracy with four shots of 20 other
classes of Tiny ImageNet, which are not reported. Where the head has another rate than the same
prompts without it, these are also trained at its rate. The temperature of all arms, zero-shot
included, is the one of the least cross-entropy of the untrained model there. Runs and features are
kept, and used again where options, images and code are the same.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_sets import (
    Task,
    breeds,
    omniglot,
    part_scenes,
    read_image,
    superclasses,
    tiny_imagenet,
)
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
    'CoOp, rate of the head': dict(prompts=WORDS),
    'deep prompts': dict(prompts=DEEP),
    'deep prompts + LatHAdapter': dict(prompts=DEEP, head=HEAD),
    'deep prompts, rate of the head': dict(prompts=DEEP),
}
"""Prompts and head of each arm."""
RATE_OF = {
    'CoOp, rate of the head': 'CoOp + LatHAdapter',
    'deep prompts, rate of the head': 'deep prompts + LatHAdapter',
}
"""Arms that take the rate of another one; they are left out where it is theirs anyway."""
PAIRS = (
    ('LatHAdapter alone', 'zero-shot'),
    ('CoOp + LatHAdapter', 'CoOp'),
    ('CoOp + LatHAdapter', 'CoOp, rate of the head'),
    ('deep prompts + LatHAdapter', 'deep prompts'),
    ('deep prompts + LatHAdapter', 'deep prompts, rate of the head'),
)
"""Arms with the head, and the same without it."""
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
BATCH = 128
"""Images of a step; all where there are fewer."""
SETS = {
    'classes': 'classes of Tiny ImageNet',
    'superclasses': 'superclasses of Tiny ImageNet',
    'breeds': 'superclasses of ImageNet, tested on other classes than trained',
    'omniglot': 'alphabets',
    'part-scenes': 'drawn things',
}


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--arms', nargs='+', default=list(ARMS), help='names of arms')
    parser.add_argument('--sets', nargs='+', default=list(SETS))
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
        ('sets', args.sets, list(SETS)),
    ):
        if not set(given) <= set(known):
            parser.error(f'--{name} must be some of {known}, got {given}')
    for arm in args.arms:
        if RATE_OF.get(arm, arm) not in args.arms:
            parser.error(f'--arms must hold {RATE_OF[arm]!r}, whose rate {arm!r} takes')
    args.arms = sorted(args.arms, key=list(ARMS).index)
    return args


def tasks_of(args: argparse.Namespace) -> tuple[dict[str, Task], Task]:
    """The sets that are wanted, and the one that rates are chosen on."""
    classes, tuning, ids = tiny_imagenet(args.data / 'tiny_imagenet', args.classes)
    makers = {
        'classes': lambda: classes,
        'superclasses': lambda: superclasses(
            classes, ids, args.data / 'imagenet_sample' / 'hierarchy' / 'modified'
        ),
        'breeds': lambda: breeds(args.data / 'imagenet_sample'),
        'omniglot': lambda: omniglot(next((args.data / 'omniglot').glob('*.zip'))),
        'part-scenes': part_scenes,
    }
    return {name: makers[name]() for name in args.sets}, tuning


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
        """Features ``(N, D)`` of what ``read_image`` takes."""
        import torch

        new = [path for path in dict.fromkeys(paths) if path not in self.known]
        for number, path in enumerate(new, 1):
            with torch.no_grad():
                image = self.clip.encode_image(self.preprocess(read_image(path))[None])[0]
            self.known[path] = torch.nn.functional.normalize(image, dim=-1)
            if number % 500 == 0 or number == len(new):
                self.file.parent.mkdir(parents=True, exist_ok=True)
                torch.save(dict(features=self.known, key=self.key), self.file)
        return torch.stack([self.known[path] for path in paths])


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
    from hyper_mm.engine.records import code_digest, key_of, load_result, save_result

    torch.set_num_threads(args.threads)
    MMLogger.get_instance('prompt_arms', log_level='WARNING')
    clip, preprocess, _ = lite_clip()
    kept = dict(data=str(args.data.resolve()), code=code_digest())
    images = Images(clip, preprocess, args.work_dir / 'features.pt', kept)
    tasks, tuning = tasks_of(args)
    for task in (*tasks.values(), tuning):
        images([x for x, _ in [*task.train, *task.test]])
    scale = calibrated(images, tuning)
    print(f'scale {scale:g}', flush=True)

    def result(arm: str, name: str, tests: list[Task], shots: int, rate: float, seed: int) -> dict:
        """A run that trains on the first of some tasks and tests all."""
        options = dict(
            arm=ARMS[arm], shots=shots, rate=rate, seed=seed, steps=args.steps, scale=scale
        )
        key = key_of(options, sets=[task.digest(args.data) for task in tests])
        first = [*ARMS.values()].index(ARMS[arm])  # equal arms have their runs in common
        file = args.work_dir / name / f'{first}_{shots}shots_{rate:g}_{seed}.json'
        found = load_result(file, key)
        if found is None:
            found = run(arm, images, tests[0], tests, scale, shots, rate, seed, args.steps)
            save_result(file, key, found)
        print(name, arm, f'{shots} shots, lr {rate:g}, seed {seed}:', json.dumps(found), flush=True)
        return found

    def best_rate(arm: str) -> float:
        """The rate of the highest accuracy on the classes that are not reported."""
        if not ARMS[arm]:
            return 0.0
        found = {r: result(arm, 'tune', [tuning], 4, r, args.tune_seed) for r in RATES}
        return max(RATES, key=lambda rate: found[rate]['accuracy'][0])

    best = {arm: best_rate(arm) for arm in args.arms if arm not in RATE_OF}
    for arm, other in RATE_OF.items():
        equal = [best[x] for x in args.arms if x in best and ARMS[x] == ARMS[arm]]
        if arm in args.arms and best[other] not in equal:
            best[arm] = best[other]
    args.arms = [arm for arm in args.arms if arm in best]
    few, transfer = {}, {}
    for name, task in tasks.items():
        rows = list(range(len(task.names)))
        halves = [task.of(half(rows, part)) for part in ('base', 'new')]
        for arm in args.arms:
            seeds, shots = (args.seeds, args.shots) if ARMS[arm] else (args.seeds[:1], [0])
            for count in shots:
                few[arm, name, count] = [
                    result(arm, name, [task], count, best[arm], seed) for seed in seeds
                ]
            transfer[arm, name] = [
                result(arm, f'{name}_halves', halves, max(shots), best[arm], seed) for seed in seeds
            ]
    text = page(args, tasks, few, transfer, best, scale)
    print(text)
    if args.out:
        write_table(args.out, 'prompt_arms', text)


def page(
    args: argparse.Namespace, tasks: dict, few: dict, transfer: dict, best: dict, scale: float
) -> str:
    """The tables, and what produced them."""
    most = max(args.shots)

    def values(arm: str, name: str) -> list[list[float]]:
        """One list of accuracies for each column of the table of a set."""
        shots = args.shots if ARMS[arm] else [0] * len(args.shots)
        found = [[x['accuracy'][0] for x in few[arm, name, count]] for count in shots]
        return [*found, *parts_of(transfer[arm, name])]

    columns = [*(f'{count} shot{"s" * (count > 1)}' for count in args.shots), 'base', 'new', 'HM']
    head = ['arm', 'trained', 'lr', *(f'{name}, {most}' for name in tasks), 's/step']
    summary, parts = [head], []
    for arm in args.arms:
        found = few[arm, next(iter(tasks)), args.shots[0] if ARMS[arm] else 0][0]
        shown = [f'{best[arm]:g}', f'{found["seconds"]:.2f}'] if ARMS[arm] else ['', '']
        cells = [standard_error(values(arm, name)[len(args.shots) - 1]) for name in tasks]
        summary.append([arm, f'{found["trained"]:,}', shown[0], *cells, shown[1]])
    for name, task in tasks.items():
        halves = (len(task.names) + 1) // 2
        parts.append(
            f'`{name}` ({SETS[name]}): {len(task.names)} classes, {len(task.test)} tested images; '
            f'base and new: {halves} and {len(task.names) - halves} classes.'
        )
        rows = [[arm, *map(standard_error, values(arm, name))] for arm in args.arms]
        parts.append(markdown([['arm', *columns], *rows]))
    pairs = [pair for pair in PAIRS if {*pair} <= {*args.arms}]
    gains = [['with the head', 'minus', 'set', *columns]]
    for arm, other in pairs:
        for name in tasks:
            differences = map(paired, values(arm, name), values(other, name))
            gains.append([arm, other, name, *map(standard_error, differences)])
    return '\n\n'.join(
        [
            f'Top-1 in percent with {most} shots of each class, by set; inverse temperature '
            f'{scale:g}.',
            markdown(summary),
            f'By shots of each class, and from base to new classes: {most} shots of the first half '
            'of the classes (base), tested on each half among its own names; HM is the harmonic '
            'mean of both.',
            *parts,
            *(['Differences, paired by seed:', markdown(gains)] if pairs else []),
            command(),
            f'{versions()}; {args.threads} threads.',
        ]
    )


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
