"""Runs tools in forks of a process that has the libraries loaded, which saves them the start."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from pathlib import Path

LIBRARIES = [
    '__main__',
    'hyper_mm.engine.launch',
    'hyper_mm.models.classifiers.prompt_kd',
    'hyper_mm.models.heads.lath_adapter_head',
    'hyper_mm.datasets.few_shot',
    'mmpretrain.apis',
]
"""What the server loads once."""


def run(script: Path, arguments: list, log: Path, threads: int) -> None:
    """Runs a tool; its output goes to a file.

    Args:
        script: The tool.
        arguments: Its arguments.
        log: File of what it prints.
        threads: Its threads.

    Raises:
        RuntimeError: If it fails; with the last lines of its output.
    """
    # a file says that all went well: exit codes get lost where threads start processes
    finished = log.with_suffix('.finished')
    finished.unlink(missing_ok=True)
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(LIBRARIES)
    options = (str(script), [str(a) for a in arguments], log, threads, finished)
    process = context.Process(target=_work, args=options)
    process.start()
    process.join()
    if not finished.is_file():
        tail = '\n'.join(log.read_text(errors='replace').splitlines()[-5:])
        raise RuntimeError(f'{script.name} failed, see {log}:\n{tail}')
    finished.unlink()


def _work(script: str, arguments: list[str], log: Path, threads: int, finished: Path) -> None:
    with log.open('w') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    torch.set_num_threads(threads)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name='__main__')
    finished.touch()
