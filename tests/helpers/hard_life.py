"""One small training of each family, in processes that may be killed."""

from __future__ import annotations

import copy
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from tests.helpers.doors import Place

FAMILIES = {
    'himapper-seg': 'himapper/himapper_deit-t_camvid.py',
    'himapper-det': 'himapper/himapper_efficientnet-lite0_bccd.py',
    'himapper-cls': 'himapper/himapper_deit-t_tiny-imagenet.py',
    'hyperclip': 'hyperclip/hyperclip_clip-mini_camvid.py',
    'open-vocab-det': 'hyperclip/hyperclip_lite-clip_coco-mini.py',
    'lathadapter': 'lathadapter/lathadapter_maple_clip-mini_omniglot.py',
    'lite-clip': 'lite_clip/cat-seg_lite-clip-b0_coco133.py',
    'metaseg': 'metaseg/metaseg_unet_nuclei.py',
    'maml': 'metaseg/maml_unet_nuclei.py',
    'radial': 'radial/radial_clip-mini_hierarcaps.py',
    'helm': 'helm/helm-mice_mini_hierarcaps.py',
    'lorentz-vit': 'lorentz_vit/lorentz-vit-mini_camvid.py',
    'hyperbolic-head': 'hyperbolic/lorentz-mlr_efficientnet-lite0_tiny-imagenet.py',
}
"""A config of each family of models, and of each library that hosts it."""
STEPS, INTERVAL = 6, 2
"""Length of a run, and steps from checkpoint to checkpoint."""


class Batches(torch.utils.data.Dataset):
    """Batches of a config's pipeline, drawn anew each time.

    Args:
        place: The config.
    """

    def __init__(self, place: Place):
        self.place = place

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> object:
        return self.place.batch(True)


def only(items: list) -> object:
    """Collates a batch of one thing."""
    (item,) = items
    return item


class CutOff(Hook):
    """Lets the process be killed while it writes a file, after that many bytes of it.

    Args:
        step: From which step on.
        size: Bytes.
    """

    priority = 'VERY_HIGH'

    def __init__(self, step: int, size: int):
        self.step, self.size = step, size

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx + 1 == self.step:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, hard))


def train(place: Place, folder: Path, hooks: tuple[Hook, ...] = (), steps: int = STEPS) -> None:
    """Trains the model of a config, going on from the last checkpoint of the folder.

    Args:
        place: The config.
        folder: Work folder.
        hooks: Further hooks.
        steps: Length of the run.
    """
    wrapper = copy.deepcopy(place.cfg.optim_wrapper)
    wrapper.pop('loss_scale', None)
    wrapper['type'] = 'OptimWrapper'
    checkpoint = dict(
        type='hyper_mm.SafeCheckpointHook', interval=INTERVAL, by_epoch=False, max_keep_ckpts=2
    )
    schedule = [dict(type='PolyLR', power=1.0, begin=0, end=steps, by_epoch=False)]
    Runner(
        model=place.model,
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=Batches(place),
            sampler=dict(type='InfiniteSampler', shuffle=True),
            batch_size=1,
            num_workers=0,
            collate_fn=only,
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=steps, val_interval=10**6),
        optim_wrapper=wrapper,
        param_scheduler=schedule,
        default_hooks=dict(checkpoint=checkpoint),
        custom_hooks=[dict(type='hyper_mm.ExactResumeHook'), *hooks],
        randomness=dict(seed=0),
        resume=True,
        default_scope=place.scope,
        log_level='ERROR',
        experiment_name=f'{folder.name}{time.monotonic_ns()}',
    ).train()


def fork(work: Callable[[], None]) -> int:
    """Runs a function in a copy of this process, which has what it takes seconds to load.

    Args:
        work: The function.

    Returns:
        Id of the process; it ends with 0, or with 1 after an exception.
    """
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        torch.set_num_threads(1)
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def end_of(pid: int) -> int:
    """Waits for a process; returns its exit code, or minus the signal that killed it."""
    status = os.waitpid(pid, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def state(folder: Path, step: int = STEPS) -> dict[str, torch.Tensor]:
    """Weights of a checkpoint and the state of its optimizer."""
    from tests.helpers.runs import weights

    return weights(folder / f'iter_{step}.pth')
