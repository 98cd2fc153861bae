"""Balance of experts after each step of the optimizer."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('mmengine')

from mmengine.optim import OptimWrapper  # noqa: E402

from hyper_mm.layers.lorentz.mice import MiCE  # noqa: E402
from hyper_mm.registry import HOOKS  # noqa: E402


def test_biases_move_once_a_step_by_the_tokens_since():
    model = torch.nn.Sequential(MiCE(6, 5, 4, 1))
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 1e-3), accumulative_counts=2)
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper)
    hook = HOOKS.build(dict(type='hyper_mm.MoEBalanceHook', speed=0.1))
    counts = torch.zeros(4)
    for step in range(2):
        x = torch.randn(20, 6)
        counts += model[0].eval().route(x).counts
        wrapper.update_params(model[0].train()(x, 1.0).sum())
        hook.after_train_iter(runner, step)
        assert model[0].bias.any() == (step == 1)
    torch.testing.assert_close(model[0].bias, 0.1 * (0.25 - counts / 40))


def test_bad_input():
    with pytest.raises(ValueError, match='must be positive'):
        HOOKS.build(dict(type='hyper_mm.MoEBalanceHook', speed=0.0))
