"""The ablations of Hi-Mapper, each one switch of a config, as one table.

    python tools/experiments/run_ablation.py --out docs/tables/ablation.md
    python tools/experiments/run_ablation.py --arms default euclidean --seeds 0

By default on PartScenes (data/part_scenes, see configs/_base_/datasets/part_scenes.py) and CamVid
(data/camvid), with the configs of these sets shortened to a size that two cores finish. All runs go
through the stock scripts; finished ones are kept, so the command resumes where it stopped.
Marks in the file of --out: <!-- ablation --> (last folder of --work-dir); see compare_arms.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import compare_arms
from tables import command, versions, write_table

ARMS = {
    'default': [],
    'euclidean': ['lift.manifold=euclidean'],
    'deterministic': ['tree.probabilistic=False'],
    'N = 16': ['tree.num_leaves=16'],
    'N = 32': ['tree.num_leaves=32'],
    'N = 64': ['tree.num_leaves=64'],
    'L = 3': ['tree.num_levels=3'],
    'L = 4': ['tree.num_levels=4'],
    'L = 5': ['tree.num_levels=5'],
    'no contrastive loss': ['loss.contrastive=0'],
    'no KL': ['loss.kl=0'],
    'sign +1': ['loss.sign=1'],
    'tau = 0.2': ['loss.tau=0.2'],
    'tau = 5': ['loss.tau=5.0'],
    'official': ['compat=official'],
}
"""Arms: what each changes in the neck; those that are the config's own tree are left out."""
CONFIGS = {'part-scenes': 'deit-t_part-scenes.py', 'camvid': 'vit-mini_camvid.py'}


def arms_of(config: str, chosen: list[str]) -> list[list[str]]:
    """Arms of a config of a set as compare_arms.py takes them, the one without Hi-Mapper last."""
    from mmengine.config import Config

    path = f'configs/himapper/himapper_{config}'
    neck = Config.fromfile(path).model.neck
    tree = neck.get('tree', {})
    own = [f'tree.{k}={tree.get(k, n)}' for k, n in (('num_leaves', 32), ('num_levels', 4))]
    arms = [
        [arm, path, *(f'model.neck.{o}' for o in ARMS[arm])]
        for arm in chosen
        if not set(ARMS[arm]) & set(own)
    ]
    return [*arms, ['without Hi-Mapper', f'configs/himapper/{config}']]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', nargs='+', choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument('--arms', nargs='+', choices=ARMS, default=list(ARMS))
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--iterations', type=int, default=150)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/ablation'))
    parser.add_argument('--out', type=Path, help='markdown file, written between its marks')
    parser.add_argument('--jobs', type=int, default=2, help='runs at a time')
    parser.add_argument('--threads', type=int, default=1, help='threads of a run')
    args = parser.parse_args()
    parts = []
    for name in args.data:
        options = argparse.Namespace(
            arm=arms_of(CONFIGS[name], args.arms),
            seeds=args.seeds,
            work_dir=args.work_dir / name,
            metric=None,
            jobs=args.jobs,
            threads=args.threads,
            cfg_options=[
                f'train_cfg.max_iters={args.iterations}',
                f'train_cfg.val_interval={args.iterations + 1}',
                f'param_scheduler.1.end={args.iterations}',
                f'default_hooks.checkpoint.interval={args.iterations}',
            ],
        )
        parts.append(f'### {name}\n\n{compare_arms.compare(options)}')
    if args.out:
        parts.append(f'{command()}\n\n{versions()}.')
        write_table(args.out, args.work_dir.resolve().name, '\n\n'.join(parts))


if __name__ == '__main__':
    main()
