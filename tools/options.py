"""Options that the tools of this folder have in common; nothing is imported before it is needed."""

from __future__ import annotations

import argparse


class ConfigOptions(argparse.Action):
    """Action of ``--cfg-options``: reads ``key=value`` entries as mmengine's tools do."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Stores the changes, by dotted keys, beside those that were given before."""
        from hyper_mm.engine.launch import parse_options

        try:
            found = parse_options(values)
        except ValueError as error:
            parser.error(str(error))
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest) or {}), **found})


def add_config_options(parser: argparse.ArgumentParser, help: str) -> None:
    """Adds ``--cfg-options``.

    Args:
        parser: The parser of the tool.
        help: What they change.
    """
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help=help)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that training and testing have in common.

    Args:
        parser: The parser of the tool.
    """
    add = parser.add_argument
    add('--work-dir', help='folder of logs and checkpoints (default: work_dirs/<config>)')
    add_config_options(
        parser,
        'changes to the config, as key=value: model.neck.tree.num_leaves=16 '
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


def default_device() -> str:
    """Returns ``'cuda'`` where torch sees a GPU, ``'cpu'`` elsewhere."""
    import torch

    return 'cuda' if torch.cuda.is_available() else 'cpu'
