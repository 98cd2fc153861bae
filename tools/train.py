"""Train the model of a config of mmseg, mmdet or mmpretrain.

Example:
    python tools/train.py configs/himapper_deit-s_ade20k.py
    python tools/train.py configs/himapper_deit-s_ade20k.py --dry-run   # does it work at all?
    python tools/train.py configs/himapper_deit-s_ade20k.py --resume    # from the last checkpoint
    bash tools/dist_train.sh configs/himapper_deit-s_ade20k.py 8 --amp  # on 8 GPUs
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from options import add_run_options

if TYPE_CHECKING:
    from mmengine.config import Config


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config file')
    add(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a value from the latest of the work dir',
    )
    add('--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    add(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the real batch size over auto_scale_lr.base_batch_size',
    )
    add('--seed', type=int, help='random seed (default: what the config says, or a random one)')
    add(
        '--dry-run',
        action='store_true',
        help='build all, run one batch of training and one of validation, and stop',
    )
    add('--deterministic', action='store_true', help='use deterministic algorithms only')
    add_run_options(parser)
    return parser


def apply_options(cfg: Config, args: argparse.Namespace) -> None:
    """Applies the options of training to a config.

    Args:
        cfg: The config, changed in place.
        args: Parsed arguments.

    Raises:
        ValueError: If the config does not fit ``--amp`` or ``--auto-scale-lr``.
    """
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.amp:
        use_amp(cfg.get('optim_wrapper'))
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise ValueError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config: the '
                'total batch size that its learning rate was chosen for'
            )
        cfg.auto_scale_lr.enable = True
    given = dict(seed=args.seed, deterministic=args.deterministic or None)
    given = {name: value for name, value in given.items() if value is not None}
    cfg.randomness = dict(cfg.get('randomness', dict(seed=None)), **given)


def use_amp(wrapper: dict | None) -> None:
    """Turns an optimizer wrapper into one of mixed precision.

    Args:
        wrapper: Its config, changed in place.

    Raises:
        ValueError: If there is none, or of a type that has no such counterpart.
    """
    from mmengine.device import get_device

    wanted = "--amp needs optim_wrapper.type='OptimWrapper'"
    if wrapper is None:
        raise ValueError(f'{wanted}, the config has no optim_wrapper')
    kind = str(wrapper.get('type', 'OptimWrapper')).rsplit('.', 1)[-1]
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'BFloat16OptimWrapper'):
        raise ValueError(f'{wanted}, got {wrapper["type"]!r}')
    if get_device() == 'cpu':
        wrapper['type'] = 'hyper_mm.BFloat16OptimWrapper'
        for name in ('loss_scale', 'dtype', 'use_fsdp'):  # of AmpOptimWrapper alone
            wrapper.pop(name, None)
    elif kind == 'OptimWrapper':
        wrapper['type'] = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')


def main() -> None:
    """Command line."""
    parser = build_parser()
    args = parser.parse_args()
    from hyper_mm.engine.launch import build_runner, dry_run, is_first_process, load_config
    from hyper_mm.engine.records import FolderLock

    try:
        cfg = load_config(args, ('train', 'val'))
        apply_options(cfg, args)
    except (ValueError, ImportError, FileNotFoundError) as error:
        parser.error(str(error))
    if args.dry_run:
        dry_run(cfg)
        return
    with contextlib.ExitStack() as stack:
        if is_first_process(cfg.launcher):
            try:  # two runs would mix their checkpoints; workers of a killed one end in seconds
                stack.enter_context(FolderLock(Path(cfg.work_dir) / 'train', patience=30))
            except RuntimeError as error:
                parser.error(f'--work-dir {cfg.work_dir}: {error}')
        build_runner(cfg).train()


if __name__ == '__main__':
    main()
