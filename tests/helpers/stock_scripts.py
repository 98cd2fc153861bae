"""The scripts of mmdet and mmpretrain on tiny models; what both test alike."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

from tests.helpers import runs
from tests.helpers.runs import REPO

COMMON = """
_base_ = {base!r}
custom_imports = dict(imports=['hyper_mm', 'tests.helpers.runs'], allow_failed_imports=False)
env_cfg = dict(dist_cfg=dict(backend='gloo'))
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1), record=dict(type='RecordHook'))
"""


def write_config(folder: Path, base: str, text: str, **values: str) -> Path:
    """Writes a tiny variant of a config.

    Args:
        folder: Where to write it.
        base: The config, in ``configs/``.
        text: What it changes; ``{name!r}`` stands for one of the values.
        **values: Values.

    Returns:
        The file.
    """
    path = folder / 'tiny.py'
    path.write_text((COMMON + text).format(base=str(REPO / 'configs' / base), **values))
    return path


class StockScripts:
    """Runs and checks the scripts that a framework brings.

    Args:
        package: Name of the framework.
    """

    def __init__(self, package: str):
        origin = Path(importlib.util.find_spec(package).origin)
        self.folder = origin.parent / '.mim' / 'tools'

    def run(self, script: str, config: Path, *args, log: Path) -> str:
        """Output of a script, by its path in the framework's ``tools``."""
        return runs.run(self.folder / script, config, *args, log=log)

    def train(self, config: Path, folder: Path) -> Path:
        """Trains two epochs; returns the folder."""
        self.run('train.py', config, '--work-dir', folder, log=folder / 'log')
        return folder

    def check_losses(self, trained: Path, steps: int, names: set[str]) -> None:
        """Losses are recorded in each step, by these names, and finite."""
        losses = runs.losses(trained)
        assert len(losses) == steps
        assert {'loss', 'loss_hier_cont', 'loss_hier_kl', *names} <= set(losses[0])
        assert all(math.isfinite(value) for step in losses for value in step.values())

    def check_resume(self, trained: Path, config: Path, folder: Path) -> None:
        """A run that goes on after the first epoch ends with the same weights."""
        args = ('--work-dir', folder, '--resume', trained / 'epoch_1.pth')
        self.run('train.py', config, *args, log=folder / 'log')
        unbroken, resumed = (runs.weights(x / 'epoch_2.pth') for x in (trained, folder))
        assert runs.differing(unbroken, resumed) == []
