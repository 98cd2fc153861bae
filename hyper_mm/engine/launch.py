"""What training and testing share: reading a config, and building its runner."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch.distributed
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from hyper_mm import checkpoints as compat
from hyper_mm.engine.hooks.safe_checkpoint_hook import mend_last_checkpoint
from hyper_mm.registry import PACKAGES


def parse_options(given: Sequence[str]) -> dict:
    """Reads changes to a config, as ``--cfg-options`` of mmengine's tools does.

    Args:
        given: Entries ``key=value``; see ``mmengine.config.DictAction``.

    Returns:
        Values by dotted keys.

    Raises:
        ValueError: If an entry is not of this form.
    """
    wrong = [entry for entry in given if '=' not in entry]
    if wrong:
        raise ValueError(f'--cfg-options takes key=value, got {" ".join(wrong)!r}')
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='*', action=DictAction, default={})
    return parser.parse_args(['--options', *given]).options


def load_config(args: argparse.Namespace, splits: tuple[str, ...]) -> Config:
    """Reads a config and applies the common options.

    Args:
        args: Parsed arguments: ``config``, ``work_dir``, ``cfg_options``, ``launcher`` and
            ``local_rank``.
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
    rank = os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0'))
    if cfg.get('resume') is True and not cfg.get('load_from') and rank == '0':
        # the hook does so, too, but FlexibleRunner reads the file before it calls a hook
        mend_last_checkpoint(Path(cfg.work_dir))
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
