"""What helps on a domain that was not trained on: pretraining, styles, meta-learning.

    python tools/experiments/run_transfer.py --out docs/tables/metaseg.md
    python tools/experiments/run_transfer.py --arms 'plain, pretrained' --seeds 0 --minutes 5

Each arm is trained once for a seed, on three domains of nuclei, and tested on all targets with 0, 1
and 5 labeled images: nuclei in fluorescence, membranes in electron microscopy, vessels of the
retina. Six images pass backwards in the outer step of any arm; all are adapted at the same grid of
rates, on the same supports and queries. Data: nuclei, membrane and fundus_vessel in data/, or where
HYPER_MM_DATA says. One process does one run after the other and stops after --minutes; what is
finished is kept, and the command resumes where it stopped.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import time
from pathlib import Path

from metaseg_arms import CONFIG, dataset, episodes, evenly, learner
from rich.console import Console
from tables import command, markdown, standard_error, versions, write_table

SOURCES = ('stained_light', 'brightfield', 'stained_tissue')
TARGETS = ('fluorescence', 'membrane', 'chasedb1')
ARMS = (
    'plain',
    'plain, style',
    'FOMAML, style',
    'plain, pretrained',
    'plain, pretrained, style',
    'FOMAML, pretrained, style',
    'prototypes, pretrained, style',
)
BASE = {name: name.replace('FOMAML', 'plain').replace('prototypes', 'plain') for name in ARMS}
"""Arm that differs by the meta-learning alone."""
OUTER, TASKS, CROP, TEST_CROP = 6, 2, 96, 96
RATES, SHOTS, QUERIES = (0.03, 0.1, 0.3), (1, 5), 8
LR, INNER_LR, INNER_STEPS = 3e-3, 0.1, 2
PRETRAINED = 'configs/_base_/models/unet_efficientnet-lite0.py'


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--arms', nargs='+', choices=ARMS, default=list(ARMS))
    add('--seeds', type=int, nargs='+', default=[0, 1, 2])
    add('--targets', nargs='+', choices=TARGETS, default=list(TARGETS))
    add('--iterations', type=int, default=150, help='steps of a training')
    add('--steps', type=int, default=10, help='gradient steps of an adaptation')
    add('--episodes', type=int, default=2, help='supports for each seed and number of labels')
    add('--minutes', type=float, default=math.inf, help='start no run after so many')
    add('--work-dir', type=Path, default=Path('work_dirs/transfer'))
    add('--out', type=Path, help='markdown file, written between its marks')
    args = parser.parse_args(arguments)
    for name in ('iterations', 'steps', 'episodes', 'minutes'):
        if not getattr(args, name) > 0:
            parser.error(f'--{name} must be positive, got {getattr(args, name)}')
    return args


def build_segmentor(arm: str) -> dict:
    """Config of the segmentor of an arm: pretrained, or the small U-Net from random weights."""
    from mmengine.config import Config

    if 'pretrained' in arm:
        path = Path(__file__).resolve().parents[2] / PRETRAINED
        segmentor = Config.fromfile(path, format_python_code=False).segmentor.to_dict()
        if arm.startswith('prototypes'):
            segmentor['decode_head'] = dict(type='hyper_mm.PrototypicalHead', in_index=0)
        return segmentor
    segmentor = Config.fromfile(CONFIG, format_python_code=False).segmentor.to_dict()
    segmentor['backbone'].update(
        base_channels=8, num_stages=4, enc_num_convs=(2,) * 4, dec_num_convs=(2,) * 3,
        downsamples=(True,) * 3, dec_dilations=(1,) * 3, strides=(1,) * 4,
        enc_dilations=(1,) * 4,
    )  # fmt: skip
    segmentor['decode_head'].update(in_channels=8, channels=8, in_index=3)
    return segmentor


def build_config(arm: str, seed: int, args: argparse.Namespace):
    """Config of the training of an arm.

    Args:
        arm: Name of the arm.
        seed: Seed of the run.
        args: What :func:`parse_args` gives.
    """
    from mmengine.config import Config

    from hyper_mm.engine.records import safe_name

    cfg = Config.fromfile(CONFIG, format_python_code=False)
    segmentor, plain = build_segmentor(arm), arm.startswith('plain')
    pipeline = [
        *cfg.train_pipeline[:2],
        dict(type='RandomResize', scale=(256, 256), ratio_range=(0.75, 1.5), keep_ratio=True),
        dict(type='RandomCrop', crop_size=(CROP, CROP), cat_max_ratio=0.95),
        dict(type='RandomFlip', prob=0.5),
        cfg.train_pipeline[-1],
    ]
    if plain and 'style' in arm:
        pipeline.insert(-1, dict(type='hyper_mm.RandomStyle'))
    data, model = evenly(SOURCES, pipeline), segmentor
    if not plain:
        data = episodes(
            dataset(SOURCES, 'train', pipeline), 1, OUTER // TASKS, 100000, single=False
        )
        data.update(style=dict(), seed=seed)
        kind = dict(type='hyper_mm.PrototypicalSegmentor', model=segmentor)
        fomaml = learner(segmentor, 'fomaml', INNER_LR, INNER_STEPS, args.steps)
        model = kind if arm.startswith('prototypes') else fomaml
    cfg.model = model
    cfg.train_dataloader.dataset = data
    batch = OUTER if plain else TASKS
    cfg.train_dataloader.update(batch_size=batch, num_workers=0, persistent_workers=False)
    cfg.optim_wrapper.optimizer.lr = LR
    if 'pretrained' in arm:
        slower = dict(custom_keys={'backbone': dict(lr_mult=0.1)})
        cfg.optim_wrapper.paramwise_cfg = slower
    cfg.train_cfg.update(max_iters=args.iterations)
    cfg.param_scheduler[0].end = args.iterations
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator', 'test_dataloader', 'test_cfg'):
        cfg[name] = None
    cfg.test_evaluator = None
    cfg.default_hooks.checkpoint.update(interval=10**9, save_last=False)
    cfg.randomness, cfg.launcher = dict(seed=seed), 'none'
    cfg.work_dir = str(args.work_dir / safe_name(arm) / f'seed{seed}')
    return cfg


def test_episodes(target: str, shots: int, cfg, args: argparse.Namespace) -> dict:
    """Config of the supports and queries of a target, the same for all arms."""
    crop = [
        dict(type='CenterCrop', crop_size=(TEST_CROP, TEST_CROP)),
        dict(
            type='KeyMapper', mapping=dict(ori_shape='img_shape'),
            remapping=dict(ori_shape='ori_shape'),
        ),
    ]  # fmt: skip
    pipeline = [*cfg.train_pipeline[:2], *crop, cfg.train_pipeline[-1]]
    if target == 'chasedb1':  # of 960 x 999 pixels
        resize = dict(type='RandomResize', scale=(512, 512), ratio_range=(1, 1), keep_ratio=True)
        pipeline.insert(2, resize)
    return episodes(dataset((target,), '', pipeline), shots, QUERIES, args.episodes)


def dice_of(samples: list) -> float:
    """Dice in percent of the foreground, over the pixels of all images."""
    common = total = 0
    for sample in samples:
        predicted, truth = sample.pred_sem_seg.data == 1, sample.gt_sem_seg.data == 1
        common += int((predicted & truth).sum())
        total += int(predicted.sum() + truth.sum())
    return 200 * common / max(total, 1)


def train_and_test(arm: str, seed: int, args: argparse.Namespace) -> dict:
    """Trains an arm, and tests it on all targets.

    Args:
        arm: Name of the arm.
        seed: Seed of the run.
        args: What :func:`parse_args` gives.

    Returns:
        Dice by ``'<target>, <labels>[, <rate>]'``, and seconds.
    """
    import torch
    from mmengine.dataset import pseudo_collate

    from hyper_mm.engine.launch import build_runner
    from hyper_mm.models.meta.meta_learner import MetaLearner
    from hyper_mm.registry import DATASETS

    begin = time.time()
    cfg = build_config(arm, seed, args)
    runner = build_runner(copy.deepcopy(cfg))
    runner.train()
    trained, model, dice = time.time(), runner.model.eval(), {}
    methods = {'': model}
    if not arm.startswith('prototypes'):
        inside = getattr(model, 'model', model)
        how = dict(algorithm='fomaml', norms='batch')
        methods = {f', {rate:g}': MetaLearner(inside, inner_lr=rate, **how) for rate in RATES}
        for method in methods.values():
            method.eval().test_steps = args.steps
        unchanged = MetaLearner(inside, test_steps=0).eval()
    for target in args.targets:
        for shots in SHOTS:
            data = DATASETS.build(test_episodes(target, shots, cfg, args))
            data.seed = seed
            items = [pseudo_collate([data[i]]) for i in range(len(data))]
            tests = {f'{target}, {shots}{name}': method for name, method in methods.items()}
            if shots == SHOTS[0] and len(methods) > 1:
                tests[f'{target}, 0'] = unchanged
            for name, method in tests.items():
                torch.manual_seed(seed)
                dice[name] = dice_of([s for item in items for s in method.val_step(item)])
    return dict(dice=dice, train_seconds=trained - begin, test_seconds=time.time() - trained)


def best_rate(results: dict, arm: str, shots: int, args: argparse.Namespace) -> str:
    """The rate at which an arm is best on average over targets and seeds; empty for prototypes."""
    runs = [results[arm, seed]['dice'] for seed in args.seeds if (arm, seed) in results]
    scores = {
        name: statistics.mean(run[f'{t}, {shots}{name}'] for run in runs for t in args.targets)
        for name in ('', *(f', {rate:g}' for rate in RATES))
        if all(f'{t}, {shots}{name}' in run for run in runs for t in args.targets)
    }
    return max(scores, key=lambda name: scores[name])


def report(args: argparse.Namespace, results: dict[tuple[str, int], dict]) -> str:
    """The tables: Dice of each arm, and the paired difference that meta-learning makes.

    Args:
        args: What :func:`parse_args` gives.
        results: Those of :func:`train_and_test`, by arm and seed.
    """
    parts = []
    arms = [arm for arm in args.arms if any(a == arm for a, _ in results)]
    for shots in (0, *SHOTS):
        rows = [['arm', 'rate', *(x for t in args.targets for x in (t, 'over its plain'))]]
        names = {arm: best_rate(results, arm, shots, args) if shots else '' for arm in arms}
        for arm in arms:
            if not shots and arm.startswith('prototypes'):
                continue
            row = [arm, names[arm].removeprefix(', ') or '-']
            for target in args.targets:
                seeds = [s for s in args.seeds if (arm, s) in results]
                get = {
                    (a, s): results[a, s]['dice'][f'{target}, {shots}{names[a]}']
                    for a in {arm, BASE[arm]} & {*arms}
                    for s in seeds
                    if (a, s) in results
                }
                row.append(standard_error([get[arm, s] for s in seeds], 1))
                pairs = [s for s in seeds if (BASE[arm], s) in get and BASE[arm] != arm]
                row.append(standard_error([get[arm, s] - get[BASE[arm], s] for s in pairs], 1))
            rows.append(row)
        what = 'As trained' if not shots else f'With {shots} labeled image{"s"[: shots > 1]}'
        parts.append(f'### {what}\n\n{markdown(rows)}')
    return '\n\n'.join(parts)


def protocol(args: argparse.Namespace) -> str:
    """What was done, in words."""
    return f"""Dice of the foreground in percent over all query pixels, mean and standard error over
the seeds; differences are paired by seed. Trained on nuclei of {', '.join(SOURCES)}, tested on
{', '.join(args.targets)}, none of which was trained on; membranes and vessels are other structures.
{args.iterations} steps of Adam at {LR:g} (a tenth for a pretrained backbone) on crops of {CROP} x
{CROP}, {OUTER} images in each outer gradient; FOMAML: {TASKS} tasks of 1 + {OUTER // TASKS} images,
{INNER_STEPS} inner steps at {INNER_LR:g}. "pretrained" is the U-Net with EfficientNet-Lite0 as
encoder, the others are a U-Net of 4 stages and 8 channels from random weights. "style" is
`hyper_mm.RandomStyle` for each image in plain training, one style for a whole task in the others.
Adapted by {args.steps} gradient steps on {args.episodes} supports a seed, the same for all arms,
{QUERIES} queries each, central {TEST_CROP} x {TEST_CROP}. The rate of each row is that of
{', '.join(f'{r:g}' for r in RATES)} which is best for the arm on average over targets and seeds:
the same choice for all, made on the queries."""


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    args = parse_args(argv)
    from hyper_mm.engine.records import claim, key_of, load_result, save_result

    console, begin, results = Console(), time.time(), {}
    settings = dict(steps=args.steps, episodes=args.episodes, targets=args.targets, rates=RATES)
    for seed in args.seeds:
        for arm in args.arms:
            cfg = build_config(arm, seed, args)
            folder = Path(cfg.work_dir)
            file, own = folder / 'result.json', key_of(cfg, tests=settings)
            result = load_result(file, own)
            if result is None and time.time() - begin < 60 * args.minutes:
                with claim(folder, own):
                    result = load_result(file, own)
                    if result is None:
                        result = train_and_test(arm, seed, args)
                        save_result(file, own, result)
                dice = ', '.join(f'{k}: {v:.1f}' for k, v in result['dice'].items())
                console.print(f'{arm}, seed {seed}: {dice}', soft_wrap=True, markup=False)
            if result is not None:
                results[arm, seed] = result
    if not results:
        console.print('no run is finished')
        return
    text = report(args, results)
    console.print(text, markup=False, soft_wrap=True)
    if args.out:
        seconds = [r['train_seconds'] + r['test_seconds'] for r in results.values()]
        write_table(
            args.out,
            args.work_dir.resolve().name,
            f'## What helps on another domain\n\n{protocol(args)}\n\n{text}\n\n{command()}\n\n'
            f'{versions()}; {len(results)} runs, {sum(seconds) / len(seconds):.0f} s each on one '
            'thread.',
        )


if __name__ == '__main__':
    main()
