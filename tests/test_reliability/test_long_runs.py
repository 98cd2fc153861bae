"""Memory of many iterations, and threads that predict by one model."""

from __future__ import annotations

import copy
import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

for library in ('mmseg', 'mmdet', 'mmpretrain', 'open_clip'):
    pytest.importorskip(library)

from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

from hyper_mm.ops.inputs import PLAIN  # noqa: E402
from tests.helpers.doors import Place, tensors  # noqa: E402
from tests.helpers.hard_life import FAMILIES  # noqa: E402

FAST = ('himapper-cls',)
ITERATIONS = 60
"""In two halves: what stays behind each time is counted, so that more of them tell no more."""


@pytest.fixture(
    params=[
        pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in FAMILIES
    ]
)
def place(request, tmp_path):
    place = Place(FAMILIES[request.param], tmp_path)
    with DefaultScope.overwrite_default_scope(place.scope):
        yield place


def living() -> tuple[int, int]:
    """Number of tensors, and of their elements."""
    gc.collect()
    # not those of tests before, which were traced and have no numbers
    found = [x for x in gc.get_objects() if type(x) in PLAIN]
    return len(found), sum(x.numel() for x in found)


@pytest.mark.slow
def test_memory_of_training_and_prediction_is_flat(place):
    wrapper = copy.deepcopy(place.cfg.optim_wrapper)
    wrapper.pop('loss_scale', None)
    wrapper['type'] = 'OptimWrapper'
    optimizer = build_optim_wrapper(place.model, wrapper)
    batch = place.batch(True)

    def steps(count: int) -> None:
        for _ in range(count):
            place.model.train().train_step(copy.deepcopy(batch), optimizer)
        for _ in range(count // 3):
            place.predict(place.model)

    steps(ITERATIONS // 2)
    before = living()
    steps(ITERATIONS // 2)
    # as many again, up to what a cache of a few entries may take; a leak is one a step
    assert living()[0] <= before[0] + ITERATIONS // 6
    assert living()[1] <= before[1] * 1.01


def test_threads_predict_by_one_model(place):
    model, batch = place.model.eval(), place.batch(False)

    def predict(_=None) -> list[torch.Tensor]:
        with torch.no_grad():
            return tensors(model.test_step(copy.deepcopy(batch)))

    expected = predict()
    assert expected
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(predict, range(8)):
            assert len(found) == len(expected)
            assert all(torch.equal(a, b) for a, b in zip(found, expected))
