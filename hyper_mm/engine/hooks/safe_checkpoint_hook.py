"""Writes checkpoints so that a run can be resumed at any time."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from hyper_mm.engine.records import write_text
from hyper_mm.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's hook, with a checkpoint to resume from at any time.

    mmengine deletes the oldest checkpoint before it writes the new one. Where the run is killed or
    the disk is full in between, ``max_keep_ckpts=1`` leaves none. This hook deletes the oldest when
    the new one is there, and where ``last_checkpoint`` names no whole file, a resumed run goes on
    from the newest one that is. The file itself appears in one step; see
    :class:`hyper_mm.engine.file_backend.AtomicLocalBackend`.

    The arguments are those of ``mmengine.hooks.CheckpointHook``.
    """

    def before_run(self, runner: Runner) -> None:
        """Lets ``last_checkpoint`` name a whole file, before the runner reads it."""
        resumes = getattr(runner, '_resume', False) and not getattr(runner, '_load_from', None)
        if not resumes:
            return
        found = mend_last_checkpoint(Path(runner.work_dir)) if is_main_process() else None
        if found is not None:
            runner.logger.warning(f'last_checkpoint named no whole file: now it names {found}')
        barrier()  # all processes read it next

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = None
        kept = self.keep_ckpt_ids if self.max_keep_ckpts > 0 else None
        if kept is not None and not (kept and kept[-1] == step):
            outdated = kept[0] if len(kept) == self.max_keep_ckpts else None
            kept.append(step)  # a deque of that length: the first one goes
            runner.message_hub.update_info('keep_ckpt_ids', list(kept))
        super()._save_checkpoint_with_step(runner, step, meta)  # has it in its list: deletes none
        if is_main_process():
            write_text(Path(runner.work_dir) / 'last_checkpoint', self.last_ckpt)
            if outdated is not None:
                self._remove(self.filename_tmpl.format(outdated))

    def _remove(self, name: str) -> None:
        path = self.file_backend.join_path(self.out_dir, name)
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # of a strategy that writes a file for each process
            self.file_backend.rmtree(path)


def mend_last_checkpoint(folder: Path) -> Path | None:
    """Makes ``last_checkpoint`` of a work folder name the newest whole checkpoint.

    Nothing is changed where it names one that is whole, or is not in this file system.

    Args:
        folder: The work folder.

    Returns:
        What it names now, if that was changed.
    """
    last = folder / 'last_checkpoint'
    if not last.is_file():
        return None
    named = last.read_text(encoding='utf-8').strip()
    if '://' in named or (named and is_whole(Path(named))):
        return None
    files = [p for p in folder.glob('*.pth') if p.name.startswith(('iter_', 'epoch_'))]
    whole = sorted(filter(is_whole, files), key=lambda path: path.stat().st_mtime_ns)
    if not whole:
        return None
    write_text(last, str(whole[-1]))
    return whole[-1]


def is_whole(path: Path) -> bool:
    """Tells whether a checkpoint has an end: a file that torch finished, or a folder.

    Args:
        path: The file or folder.
    """
    if path.is_dir():
        return any(path.iterdir())
    if not path.is_file():
        return False
    with path.open('rb') as file:
        archive = file.read(2) == b'PK'
    # files of torch before 1.6 have no end that could be found
    return zipfile.is_zipfile(path) if archive else os.path.getsize(path) > 0
