"""Few-shot classification of characters: prototypes and MAML beside plain training, as one table.

    python tools/dataset_converters/omniglot.py images_background_small1.zip data/omniglot_few_shot
        --held-out val=Greek test=Korean --rotations --size 28
    python tools/experiments/few_shot_omniglot.py --out docs/tables/few_shot_omniglot.md

Tasks are of 5 characters with 1 or 5 images each, all of an alphabet that was not trained on. Each
arm has four convolutions of 64 channels and sees as many images. Its learning rate is the one of
--rates that is best on the validation alphabet after half of the iterations, with the first seed;
then it is trained once a seed and tested on the test alphabet, on the same tasks as the others. One
process does one run after the other and stops after --minutes; what is finished is kept, and the
command resumes where it stopped.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from tables import command, markdown, standard_error, versions, write_table

CONFIG = 'configs/metaseg/{}_conv4_omniglot.py'
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    'random weights, prototypes': ('protonet', {}),
    'plain, prototypes': ('protonet', {}),
    'plain, fine-tuned': ('maml', {'model.algorithm': 'fomaml', 'model.test_steps': 20}),
    'ProtoNet': ('protonet', {}),
    'ProtoNet, distance': (
        'protonet',
        {'model.model.head.classifier': dict(distance='euclidean', scale=5.0)},
    ),
    'ProtoNet, cosine': (
        'protonet',
        {'model.model.head.classifier': dict(distance='cosine', scale=10.0)},
    ),
    'ProtoNet, Lorentz': (
        'protonet',
        {'model.model.head.classifier': dict(distance='lorentz', scale=5.0)},
    ),
    'FOMAML': ('maml', {'model.algorithm': 'fomaml'}),
    'MAML': ('maml', {}),
}
"""Config of each arm (of the plain ones: of their test), and what it changes."""
SHOTS = (1, 5)
RATES = (3e-4, 1e-3, 3e-3)
ACCURACY = 'accuracy/top1'


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--arms', nargs='+', choices=ARMS, default=list(ARMS))
    add('--shots', type=int, nargs='+', choices=SHOTS, default=list(SHOTS))
    add('--seeds', type=int, nargs='+', default=[0, 1, 2])
    add('--rates', type=float, nargs='+', default=list(RATES))
    add('--iterations', type=int, default=250, help='batches of 4 tasks')
    add('--episodes', type=int, default=100, help='tasks of a test')
    add('--minutes', type=float, default=math.inf, help='start no run after so many')
    add('--threads', type=int, default=1, help='threads of torch')
    add('--work-dir', type=Path, default=Path('work_dirs/few_shot_omniglot'))
    add('--out', type=Path, help='markdown file, written between its marks')
    args = parser.parse_args(arguments)
    for name in ('iterations', 'episodes', 'minutes', 'threads'):
        if not getattr(args, name) > 0:
            parser.error(f'--{name} must be positive, got {getattr(args, name)}')
    return args


def build_config(arm: str, shots: int, seed: int, rate: float, steps: int, split: str, args):
    """Config of the run of an arm; of a plain one, that of its test.

    Args:
        arm: Name of the arm.
        shots: Images of each class to learn from.
        seed: Seed of the run.
        rate: Learning rate.
        steps: Batches of tasks.
        split: ``'val'`` or ``'test'``, the alphabet to test on.
        args: What :func:`parse_args` gives.
    """
    from mmengine.config import Config

    from hyper_mm.engine.records import safe_name

    name, options = ARMS[arm]
    cfg = Config.fromfile(CONFIG.format(name), format_python_code=False)
    cfg.merge_from_dict(options)
    cfg.train_cfg.update(max_iters=steps, val_interval=steps)
    cfg.param_scheduler[0].end = steps
    cfg.optim_wrapper.optimizer.lr = rate
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.k_shot = shots
    cfg.train_dataloader.dataset.seed = seed
    cfg.test_dataloader.dataset.dataset.data_prefix = split
    cfg.test_dataloader.dataset.num_episodes = args.episodes
    cfg.test_cfg.seeds = [1000]  # the tasks of all arms and seeds
    cfg.default_hooks.checkpoint.update(interval=10**9, save_last=False)
    cfg.randomness, cfg.launcher, cfg.log_level = dict(seed=seed), 'none', 'WARNING'
    folder = f'{safe_name(arm)}_{shots}_{split}_{rate:g}'
    cfg.work_dir = str(args.work_dir / folder / f'seed{seed}')
    return cfg


def plain_config(cfg):
    """Config of plain training on all characters, on as many images in equally many steps."""
    plain = copy.deepcopy(cfg)
    data, model = plain.train_dataloader.dataset, plain.model.model
    images = plain.train_dataloader.batch_size * data.n_way * (data.k_shot + data.n_query)
    plain.train_dataloader.batch_size, plain.train_dataloader.dataset = images, data.dataset
    num_classes = len(list((Path(data.dataset.data_root) / 'train').iterdir()))
    model.head = dict(type='mmpretrain.LinearClsHead', num_classes=num_classes, in_channels=64)
    plain.model = model
    plain.test_cfg = plain.test_dataloader = plain.test_evaluator = None
    plain.work_dir = f'{cfg.work_dir}/plain'
    return plain


def train_and_test(arm: str, cfg) -> dict:
    """Accuracy in percent on the test tasks, and the seconds of training."""
    from mmengine.runner import Runner

    begin, backbone = time.time(), None
    if arm.startswith('plain'):
        plain = Runner.from_cfg(plain_config(cfg))
        backbone = plain.train().backbone.state_dict()
    runner = Runner.from_cfg(copy.deepcopy(cfg))
    if backbone is not None:
        runner.model.model.backbone.load_state_dict(backbone)
    elif not arm.startswith('random'):
        runner.train()
    seconds = time.time() - begin
    return dict(accuracy=runner.test()[ACCURACY], seconds=seconds)


def result_of(arm: str, cfg, may_start: bool) -> dict | None:
    """Result of a run, kept in ``result.json``; None if it is not there and must not start."""
    from hyper_mm.engine.records import claim, key_of, load_result, save_result

    folder = Path(cfg.work_dir)
    file, key = folder / 'result.json', key_of(cfg, arm=arm)
    result = load_result(file, key)
    if result is None and may_start:
        with claim(folder, key):
            result = load_result(file, key)
            if result is None:
                result = train_and_test(arm, cfg)
                save_result(file, key, result)
    return result


def run_all(args: argparse.Namespace) -> tuple[dict, dict]:
    """Runs what is not done yet.

    Returns:
        Results by arm, shots and seed; accuracies on the validation alphabet by arm, shots, rate.
    """
    console, end = Console(), time.time() + 60 * args.minutes
    results, tuned = {}, {}
    for shots in args.shots:
        for arm in args.arms:
            random = arm.startswith('random')
            for rate in args.rates[: 1 if random else None]:
                steps = math.ceil(args.iterations / 2)
                cfg = build_config(arm, shots, args.seeds[0], rate, steps, 'val', args)
                if len(args.rates) > 1 and not random:
                    found = result_of(arm, cfg, time.time() < end)
                    tuned[arm, shots, rate] = found['accuracy'] if found else math.nan
            rate = max(
                args.rates, key=lambda r: (tuned.get((arm, shots, r), 0), -args.rates.index(r))
            )
            for seed in args.seeds:
                cfg = build_config(arm, shots, seed, rate, args.iterations, 'test', args)
                found = result_of(arm, cfg, time.time() < end)
                if found:
                    results[arm, shots, seed] = {**found, 'rate': rate}
                    console.print(f'{arm}, {shots} shot, seed {seed}: {found["accuracy"]:.2f}')
    return results, tuned


def report(args: argparse.Namespace, results: dict, tuned: dict) -> str:
    """The tables: accuracy, the difference to plain training, and how rates were chosen."""
    parts, base = [], 'plain, prototypes'
    for shots in args.shots:
        rows = [['arm', 'rate', 'accuracy, %', f'over "{base}"', 's']]
        for arm in args.arms:
            own = {s: results[arm, shots, s] for s in args.seeds if (arm, shots, s) in results}
            if not own:
                continue
            pairs = [s for s in own if (base, shots, s) in results and arm != base]
            gains = [own[s]['accuracy'] - results[base, shots, s]['accuracy'] for s in pairs]
            rate = '-' if arm.startswith('random') else f'{next(iter(own.values()))["rate"]:g}'
            seconds = statistics.median(run['seconds'] for run in own.values())
            accuracy = standard_error([run['accuracy'] for run in own.values()])
            rows.append([arm, rate, accuracy, standard_error(gains), f'{seconds:.0f}'])
        parts.append(f'### 5 ways, {shots} image{"s"[: shots > 1]} of each\n\n{markdown(rows)}')
    rows = [['arm', 'images', *(f'{rate:g}' for rate in args.rates)]]
    for arm, shots in dict.fromkeys(key[:2] for key in tuned):
        values = [f'{tuned[arm, shots, rate]:.2f}' for rate in args.rates]
        rows.append([arm, str(shots), *values])
    if len(rows) > 1:
        text = 'Accuracy on the validation alphabet by learning rate, half of the iterations:'
        parts.append(f'{text}\n\n{markdown(rows)}')
    return '\n\n'.join(parts)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    args = parse_args(argv)
    import torch

    torch.set_num_threads(args.threads)
    results, tuned = run_all(args)
    if not results:
        Console().print('no run is finished')
        return
    text = report(args, results, tuned)
    Console().print(text, markup=False, soft_wrap=True)
    if args.out:
        text += (
            f'\n\nMean and standard error over seeds {args.seeds}; {args.iterations} batches of 4 '
            f'tasks, {args.episodes} test tasks of 5 x 15 queries.'
            f'\n\n{command()}\n\n{versions()}; {args.threads} threads.'
        )
        write_table(args.out, args.work_dir.resolve().name, text)


if __name__ == '__main__':
    main()
