"""What ``tools/train.py`` and ``tools/test.py`` share: options, and the runner of a config."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import torch.distributed
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from hyper_mm import checkpoints as compat
from hyper_mm.registry import PACKAGES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that training and testing have in common.

    Args:
        parser: The parser of the tool.
    """
    add = parser.add_argument
    add('--work-dir', help='folder of logs and checkpoints (default: work_dirs/<config>)')
    add(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='changes to the config, as key=value: model.neck.num_leaves=16 '
        'train_dataloader.dataset.data_root=/data/ade',
    )
    add(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what starts the processes of distributed work (see tools/dist_train.sh)',
    )
    # torch.distributed.launch passes it; torchrun sets the environment instead
    add('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace, splits: tuple[str, ...]) -> Config:
    """Reads a config and applies the common options.

    Args:
        args: Parsed arguments with ``config`` and those of :func:`add_arguments`.
        splits: What the run reads, of ``'train'``, ``'val'`` and ``'test'``.

    Returns:
        The config.

    Raises:
        ValueError: If the config has no ``default_scope``.
        ImportError: If the library of its scope is not installed.
        FileNotFoundError: If a data root of these splits does not exist.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    scope = cfg.get('default_scope')
    if scope is None:
        raise ValueError(
            f'{args.config} does not say which library its types are from: add '
            "default_scope='mmseg' (or 'mmdet', 'mmpretrain') to it"
        )
    if importlib.util.find_spec(scope) is None:
        raise ImportError(
            f'{args.config} has default_scope={scope!r}, which is not installed: '
            f'pip install {PACKAGES.get(scope, scope)}'
        )
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', Path(args.config).stem)
    for split in splits:
        check_data_root(cfg, f'{split}_dataloader')
    return cfg


def build_runner(cfg: Config) -> Runner:
    """Builds the runner of a config.

    Args:
        cfg: The config.

    Returns:
        The runner.
    """
    if cfg.default_scope == 'mmpretrain':
        for split in ('train', 'val', 'test'):
            set_mmpretrain_defaults(cfg.get(f'{split}_dataloader'))
    if cfg.launcher != 'none' and get_device() == 'cpu':
        prepare_cpu_processes(cfg)
    compat.install_checkpoint_loader()
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def innermost_datasets(dataset: dict | None, path: str) -> Iterator[tuple[str, dict]]:
    """Walks through the wrappers (``RepeatDataset``, ``ConcatDataset``, ...) of a dataset config.

    Args:
        dataset: Config of a dataset, or None.
        path: Where it stands in the config.

    Yields:
        Path and config of each dataset that is no wrapper.
    """
    if not isinstance(dataset, dict):
        return
    if 'dataset' in dataset:
        yield from innermost_datasets(dataset['dataset'], f'{path}.dataset')
    elif 'datasets' in dataset:
        parts = dataset['datasets']
        for index, part in parts.items() if isinstance(parts, dict) else enumerate(parts):
            yield from innermost_datasets(part, f'{path}.datasets.{index}')
    else:
        yield path, dataset


def check_data_root(cfg: Config, name: str) -> None:
    """Refuses a data loader whose local ``data_root`` does not exist.

    Args:
        cfg: The config.
        name: Name of the data loader, such as ``'train_dataloader'``.

    Raises:
        FileNotFoundError: With the name of the option, its value and the remedy.
    """
    loader = cfg.get(name) or {}
    for path, dataset in innermost_datasets(loader.get('dataset'), f'{name}.dataset'):
        root = dataset.get('data_root')
        if root and '://' not in root and not os.path.isdir(root):
            raise FileNotFoundError(
                f'{path}.data_root={root!r}: there is no such folder (from {os.getcwd()}). Put the '
                f'data there, or say where it is: --cfg-options {path}.data_root=FOLDER'
            )


def set_mmpretrain_defaults(loader: dict | None) -> None:
    """Sets what mmpretrain's configs leave to its launch scripts.

    Args:
        loader: Config of a data loader, changed in place.
    """
    if loader:
        loader.setdefault('collate_fn', dict(type='default_collate'))
        loader.setdefault('pin_memory', True)
        loader.setdefault('persistent_workers', loader.get('num_workers', 0) > 0)


def prepare_cpu_processes(cfg: Config) -> None:
    """Joins the processes of torchrun where there is no GPU, for which mmengine has no way.

    Args:
        cfg: The config, changed in place.

    Raises:
        ValueError: For another launcher.
    """
    if cfg.launcher != 'pytorch':
        raise ValueError(f"without a GPU, launcher must be 'pytorch', got {cfg.launcher!r}")
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    cfg.setdefault(
        'model_wrapper_cfg',
        dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        ),
    )
