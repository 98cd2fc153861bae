"""Averaged prompts and schedules, in runs of prompted CLIP on drawn folders."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip('mmpretrain')
pytest.importorskip('open_clip')
pytestmark = [pytest.mark.mmpretrain, pytest.mark.usefixtures('no_scope')]


from hyper_mm.engine.hooks.prompt_averaging_hook import (  # noqa: E402
    PromptAveragingHook,
    gaussian_weights,
)
from tests.helpers.prompt_runs import EPOCHS, build  # noqa: E402


def test_run(images, tmp_path):
    runner, recorder = build(images, tmp_path / 'whole')
    runner.train()
    # trained on three classes, validated on the other two
    assert set(recorder.classes) == {2}
    cosine = [0.0035 * 0.5 * (1 + np.cos(np.pi * e / EPOCHS)) for e in range(EPOCHS)]
    assert recorder.rates == pytest.approx([1e-5, *cosine[:-1]])  # Dassl counts anew
    weights = gaussian_weights(EPOCHS, 3.0, 1.5)
    expected = sum(w * c for w, c in zip(weights, recorder.contexts))
    torch.testing.assert_close(runner.model.prompts.context.detach(), expected)
    assert not torch.allclose(expected, recorder.contexts[-1], atol=1e-7, rtol=0)

    again, _ = build(
        images, tmp_path / 'resumed', resume=True, load_from=str(tmp_path / 'whole/epoch_2.pth')
    )
    again.train()
    assert torch.equal(again.model.prompts.context, runner.model.prompts.context)


def test_weights_of_epochs():
    weights = gaussian_weights(20, 15.0, 1.0)
    assert sum(weights) == pytest.approx(1)
    assert max(weights) == weights[14]
    assert weights[15] / weights[14] == pytest.approx(np.exp(-0.5))
    assert sum(gaussian_weights(3, 45.0, 0.5)) == pytest.approx(1)  # nothing underflows


def test_bad_use(images, tmp_path):
    with pytest.raises(ValueError, match='std'):
        PromptAveragingHook(std=0.0)
    runner, _ = build(images, tmp_path / 'bad')
    with pytest.raises(ValueError, match='no parameter'):
        PromptAveragingHook(part='clip').after_train_epoch(runner)


def test_resumes_that_would_lose_a_part_of_the_average():
    """Of runs without the hook, or with other weights of the epochs."""
    runner, kept = SimpleNamespace(max_epochs=4, _resume=True), {}
    hook = PromptAveragingHook(mean=3.0, std=1.5)
    hook.sums = dict(context=torch.ones(2))
    hook.before_save_checkpoint(runner, kept)
    again = PromptAveragingHook(mean=3.0, std=1.5)
    again.after_load_checkpoint(runner, kept)
    assert torch.equal(again.sums['context'], torch.ones(2))
    with pytest.raises(ValueError, match='no sums of the epochs before it'):
        again.after_load_checkpoint(runner, {})
    with pytest.raises(ValueError, match="weighted by .*'std': 1.5.* now .*'std': 2.0"):
        PromptAveragingHook(mean=3.0, std=2.0).after_load_checkpoint(runner, kept)
    with pytest.raises(ValueError, match="weighted by .*'epochs': 4.* now .*'epochs': 8"):
        again.after_load_checkpoint(SimpleNamespace(max_epochs=8, _resume=True), kept)
    del kept['prompt_average_of']  # of an older version
    again.after_load_checkpoint(runner, kept)
    begun = PromptAveragingHook()
    begun.after_load_checkpoint(SimpleNamespace(max_epochs=4, _resume=False), {})
    assert begun.sums == {}
