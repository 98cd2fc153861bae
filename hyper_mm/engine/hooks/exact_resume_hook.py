"""Makes a resumed run the continuation, bit by bit, of the one that was interrupted."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from hyper_mm.registry import HOOKS


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes a resumed run the continuation, bit by bit, of the one that was interrupted.

    mmengine's checkpoints hold no state of the random generators. Instead of adding it, this hook
    makes that state a function of the seed and the step: it seeds the generators of python, numpy
    and torch before every batch of an iteration-based loop and every epoch of an epoch-based one.
    So any checkpoint will do, with any number of processes, and validation in between changes
    nothing.

    mmengine itself brings the data back into position: an iteration-based loop draws the batches of
    the past once more. The data loader was built before the checkpoint was read; where the
    checkpoint is of another seed (a run without a seed draws one), the hook builds it again.

    The continuation is exact where the operations are deterministic (``--deterministic`` on GPUs)
    and the numbers of processes and workers stay the same. In epoch-based loops the transforms draw
    from generators of the workers, which start afresh: there it is exact with ``num_workers=0`` or
    ``persistent_workers=False``. Gradients accumulated since the last optimizer step are not in a
    checkpoint: its interval should be a multiple of ``accumulative_counts``.
    """

    def before_run(self, runner: Runner) -> None:
        """Remembers the seed of the data loader."""
        self._loader_seed = runner.seed

    def before_train(self, runner: Runner) -> None:
        """Builds the data loader again if a checkpoint has brought another seed."""
        loop = runner.train_loop
        flexible = hasattr(runner, 'strategy')
        randomness = runner.strategy._randomness if flexible else runner._randomness_cfg
        different, before = randomness.get('diff_rank_seed', False), self._loader_seed
        if flexible and not different:  # FlexibleRunner resumes before it calls any hook
            before = getattr(loop.dataloader.sampler, 'seed', before)
        if runner.seed == before:
            return
        loop.dataloader = runner.build_dataloader(
            dict(runner.cfg.train_dataloader, dataset=loop.dataloader.dataset),
            seed=runner.seed,
            diff_rank_seed=different,
        )
        if hasattr(loop, 'dataloader_iterator'):
            loop.dataloader_iterator = type(loop.dataloader_iterator)(loop.dataloader)

    def before_train_epoch(self, runner: Runner) -> None:
        """Seeds the generators for an epoch, or for each step of an iteration-based loop."""
        loop = runner.train_loop
        if hasattr(loop, 'dataloader_iterator'):
            loop.dataloader_iterator = SeededBatches(loop.dataloader_iterator, runner.seed)
        else:
            seed_generators(runner.seed, loop.epoch)


class SeededBatches(Iterator):
    """Batches of an iteration-based loop, each drawn from generators seeded for its step.

    Args:
        batches: Batches.
        seed: Seed of the run.
    """

    def __init__(self, batches: Iterator, seed: int):
        self._batches = batches
        self._seed = seed
        self._step = 0

    def __next__(self):
        seed_generators(self._seed, self._step)
        batch = next(self._batches)
        self._step += 1
        return batch

    def skip_iter(self, num_iters: int) -> None:
        """Draws the batches of the past, as mmengine does and its continuation calls it.

        The continuation could skip them in the sampler alone, but then transforms in worker
        processes would start afresh.

        Args:
            num_iters: How many.
        """
        for _ in range(num_iters):
            next(self)


def seed_generators(seed: int, step: int) -> None:
    """Seeds the generators of python, numpy and torch (all devices).

    Args:
        seed: Seed of the run, not negative.
        step: Number of the step, not negative.
    """
    words = np.random.SeedSequence([seed, step]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.manual_seed(int(words[2]))
