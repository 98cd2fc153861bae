"""What training and testing share: reading a config, and building its runner."""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch.distributed
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import FlexibleRunner, Runner

from hyper_mm import checkpoints as compat
from hyper_mm.engine.hooks.equal_shards_hook import EqualShardsHook
from hyper_mm.engine.hooks.safe_checkpoint_hook import mend_last_checkpoint
from hyper_mm.engine.hooks.taxonomy_classes_hook import TaxonomyClassesHook
from hyper_mm.near_misses import suggestion
from hyper_mm.registry import PACKAGES

READ_BY_OTHERS = (
    *('custom_imports', 'runner_type', 'compile', 'model_wrapper_cfg', 'sync_bn'),
    *('find_unused_parameters', 'activation_checkpointing', 'efficient_conv_bn_eval'),
    *('tta_model', 'tta_pipeline', 'dataset_meta', 'work_dir'),
)
"""Top-level keys of a config that are no arguments of a runner, but read by it or by tools."""


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
    warn_of_unread_keys(cfg, args.cfg_options or ())
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


def warn_of_unread_keys(cfg: Config, options: Iterable[str]) -> None:
    """Warns of top-level keys that nothing reads: misspelled ones, and options without effect.

    A config file may hold variables of its own, which its values have already taken. So of its keys
    those next to a key that is read are reported, and of the options all.

    Args:
        cfg: The config, with its options.
        options: Keys of the options, such as ``'train_cfg.max_iters'``.
    """
    signatures = [inspect.signature(kind.__init__) for kind in (Runner, FlexibleRunner)]
    arguments = {n for signature in signatures for n in signature.parameters} - {'self', 'cfg'}
    read = arguments | {*READ_BY_OTHERS}
    given = {option.split('.')[0] for option in options}
    for name in sorted(given - read):
        warnings.warn(
            f'--cfg-options {name}: nothing reads the top-level key {name!r}'
            f'{suggestion(name, read)} A variable of a config file is taken where the file is read:'
            ' set the keys that it went to, such as train_dataloader.dataset.data_root',
            stacklevel=2,
        )
    for name in sorted(cfg.keys() - read - given):
        hint = suggestion(name, arguments - cfg.keys(), cutoff=0.88)
        if hint:
            warnings.warn(
                f'nothing reads the top-level key {name!r} of the config{hint}', stacklevel=2
            )


def check_optim_wrapper(cfg: Config) -> None:
    """Refuses mixed precision that the device does not have.

    Args:
        cfg: The config.

    Raises:
        ValueError: With the type, and what to take instead.
    """
    kind = str((cfg.get('optim_wrapper') or {}).get('type', '')).rsplit('.', 1)[-1]
    if kind == 'AmpOptimWrapper' and get_device() == 'cpu':
        raise ValueError(
            "optim_wrapper.type='AmpOptimWrapper' needs an accelerator and there is none: take "
            "'hyper_mm.BFloat16OptimWrapper' (tools/train.py --amp does so), or 'OptimWrapper' for "
            'full precision'
        )


def dry_run(cfg: Config) -> None:
    """Builds all that a config names and runs one batch of training and one of validation.

    Nothing is written but to a temporary folder.

    Args:
        cfg: The config, changed in place.
    """
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        cfg.merge_from_dict({'default_hooks.checkpoint': None})
        by_epoch = 'max_epochs' in cfg.train_cfg
        cfg.train_cfg['max_epochs' if by_epoch else 'max_iters'] = 1
        if cfg.get('val_cfg') is not None:
            cfg.train_cfg.update(val_begin=1, val_interval=1)
        cfg.resume = False
        runner = build_runner(cfg)
        if by_epoch:
            runner.train_loop.dataloader = FirstBatch(runner.train_loop.dataloader)
        if cfg.get('val_cfg') is not None:
            runner.val_loop.dataloader = FirstBatch(runner.val_loop.dataloader)
        runner.train()
        runner.logger.info('dry run: one batch of training and one of validation have passed')


class FirstBatch:
    """A data loader that ends after its first batch.

    Args:
        dataloader: The data loader.
    """

    def __init__(self, dataloader: object):
        self._dataloader = dataloader

    def __iter__(self) -> Iterator:
        for batch in self._dataloader:
            yield batch
            return

    def __len__(self) -> int:
        return 1

    def __getattr__(self, name: str) -> object:
        return getattr(self._dataloader, name)


def build_runner(cfg: Config) -> Runner:
    """Builds the runner of a config.

    Args:
        cfg: A complete config.

    Returns:
        ``mmengine.runner.Runner``, or the one of ``runner_type``.

    Raises:
        ValueError: If the config asks for mixed precision that the device does not have.
    """
    check_optim_wrapper(cfg)
    if cfg.default_scope == 'mmpretrain':
        for split in ('train', 'val', 'test'):
            set_mmpretrain_defaults(cfg.get(f'{split}_dataloader'))
    if cfg.launcher != 'none' and get_device() == 'cpu':
        prepare_cpu_processes(cfg)
    compat.install_checkpoint_loader()
    if cfg.get('resume') is True and not cfg.get('load_from') and is_first_process(cfg.launcher):
        # the hook does so, too, but FlexibleRunner reads the file before it calls a hook
        mend_last_checkpoint(Path(cfg.work_dir))
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    for hook in (EqualShardsHook(), TaxonomyClassesHook()):
        runner.register_hook(hook)
    return runner


def is_first_process(launcher: str) -> bool:
    """Tells whether this is the first process of a run, before the processes know each other.

    Args:
        launcher: Launcher of mmengine: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
    """
    ranks = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')
    return launcher == 'none' or os.environ.get(ranks[launcher], '0') == '0'


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
