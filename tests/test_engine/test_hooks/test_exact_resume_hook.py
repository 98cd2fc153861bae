"""Generators that are seeded by the step; resumed runs are in the tests of the loops and tools."""

import random
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip('mmengine')

from hyper_mm.engine.hooks.exact_resume_hook import (  # noqa: E402
    ExactResumeHook,
    SeededBatches,
    seed_generators,
)


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def drawing():
    """Batches that are what the generators draw."""
    return iter(draw, None)


def test_seeds_are_a_function_of_seed_and_step():
    found = {}
    for seed in (0, 1):
        for step in (0, 1, 2):
            seed_generators(seed, step)
            found[seed, step] = draw()
    for (seed, step), values in found.items():
        seed_generators(seed, step)
        assert draw() == values
    assert len({v for values in found.values() for v in values}) == 3 * len(found)


def test_batches_do_not_depend_on_what_was_drawn_between():
    unbroken = SeededBatches(drawing(), 3)
    expected = [next(unbroken) for _ in range(5)]
    disturbed = SeededBatches(drawing(), 3)
    found = []
    for _ in range(5):
        found.append(next(disturbed))
        [draw() for _ in range(7)]
    assert found == expected


def test_a_resumed_run_draws_the_batches_of_the_past():
    unbroken = SeededBatches(zip(count(), drawing()), 3)
    expected = [next(unbroken) for _ in range(5)]
    resumed = SeededBatches(zip(count(), drawing()), 3)
    resumed.skip_iter(3)
    assert [next(resumed) for _ in range(2)] == expected[3:]


def runner(seed, **loop):
    built = []

    def build_dataloader(config, **options):
        built.append((config, options))
        return 'new loader'

    dataloader = SimpleNamespace(dataset='data')
    return SimpleNamespace(
        seed=seed,
        train_loop=SimpleNamespace(dataloader=dataloader, **loop),
        cfg=SimpleNamespace(train_dataloader=dict(batch_size=2, dataset='config')),
        _randomness_cfg=dict(diff_rank_seed=True),
        build_dataloader=build_dataloader,
        built=built,
    )


def test_the_loader_is_built_again_where_the_checkpoint_has_another_seed():
    hook, run = ExactResumeHook(), runner(1, epoch=0)
    hook.before_run(run)
    hook.before_train(run)
    assert run.built == []
    run.seed = 2
    hook.before_train(run)
    options = dict(seed=2, diff_rank_seed=True)
    assert run.built == [(dict(batch_size=2, dataset='data'), options)]
    assert run.train_loop.dataloader == 'new loader'


def test_epochs_are_seeded_by_their_number():
    hook, run = ExactResumeHook(), runner(5, epoch=4)
    hook.before_train_epoch(run)
    found = draw()
    seed_generators(5, 4)
    assert found == draw()


def test_iterations_are_seeded_one_by_one():
    hook, run = ExactResumeHook(), runner(5, dataloader_iterator=drawing())
    hook.before_train_epoch(run)
    found = [next(run.train_loop.dataloader_iterator) for _ in range(2)]
    for step in range(2):
        seed_generators(5, step)
        assert found[step] == draw()


@pytest.mark.parametrize('own', [False, True])
@pytest.mark.parametrize('drawn', [3, 5])
def test_a_flexible_runner_resumes_before_the_hook_is_called(drawn, own):
    """The loader was made with the seed of before; one that each rank draws stays."""
    built = []
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset='data', sampler=None))
    loop.dataloader.sampler = SimpleNamespace(seed=drawn)
    runner = SimpleNamespace(
        seed=5,
        train_loop=loop,
        strategy=SimpleNamespace(_randomness=dict(seed=5, diff_rank_seed=own)),
        cfg=SimpleNamespace(train_dataloader=dict(batch_size=2)),
        build_dataloader=lambda cfg, **options: built.append((cfg, options)),
    )
    hook = ExactResumeHook()
    hook.before_run(runner)
    hook.before_train(runner)
    if drawn == 5 or own:
        assert not built
    else:
        assert built == [(dict(batch_size=2, dataset='data'), dict(seed=5, diff_rank_seed=False))]
