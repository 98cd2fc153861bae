"""Mixed precision in bfloat16 on a CPU."""

import pytest
import torch
from torch import nn

pytest.importorskip('mmengine')

from hyper_mm.registry import OPTIM_WRAPPERS  # noqa: E402


def test_computes_in_bfloat16_and_steps_in_float32():
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    wrapper = OPTIM_WRAPPERS.build(
        dict(type='hyper_mm.BFloat16OptimWrapper', optimizer=optimizer, clip_grad=dict(max_norm=9))
    )
    x, before = torch.randn(2, 8), model.weight.detach().clone()
    with wrapper.optim_context(model):
        out = model(x)
    assert out.dtype == torch.bfloat16 and model(x).dtype == torch.float32
    wrapper.update_params(out.float().sum())
    assert model.weight.dtype == torch.float32 and not torch.equal(model.weight, before)


def test_accumulation_steps_every_second_time():
    model = nn.Linear(8, 4)
    wrapper = OPTIM_WRAPPERS.build(
        dict(
            type='hyper_mm.BFloat16OptimWrapper',
            optimizer=torch.optim.SGD(model.parameters(), 0.1),
            accumulative_counts=2,
        )
    )
    wrapper.initialize_count_status(model, 0, 4)
    seen = []
    for _ in range(4):
        before = model.weight.detach().clone()
        with wrapper.optim_context(model):
            wrapper.update_params(model(torch.ones(1, 8)).float().sum())
        seen.append(torch.equal(before, model.weight))
    assert seen == [True, False, True, False]
