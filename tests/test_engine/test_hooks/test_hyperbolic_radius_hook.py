import copy
import threading
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('mmseg')
pytest.importorskip('open_clip')

from mmengine.logging import MessageHub  # noqa: E402

from hyper_mm.engine.hooks.hyperbolic_radius_hook import (  # noqa: E402
    HyperbolicRadiusHook,
    draw_histogram,
    hyperbolic_radius,
)
from hyper_mm.ops import poincare  # noqa: E402
from tests.helpers.open_vocab import HYPERCLIP, batch, build, run  # noqa: E402


@pytest.fixture
def runner(request):
    """What the hooks see of a runner; pictures are collected."""
    pictures = {}
    return SimpleNamespace(
        model=build(adapter=dict(HYPERCLIP, text_curvature=1e6)),
        message_hub=MessageHub.get_instance(request.node.name),
        visualizer=SimpleNamespace(
            add_image=lambda name, image, step: pictures.update({(name, step): image})
        ),
        iter=1,
        pictures=pictures,
    )


def test_logs_radii_and_what_is_clipped(runner):
    hook = HyperbolicRadiusHook(interval=2)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    run(runner.model, batch())
    seen = dict(hook._found)
    hook.after_train_iter(runner, 0)
    found = {
        name.rpartition('/')[2]: runner.message_hub.get_scalar(name).current()
        for name in runner.message_hub.log_scalars
    }
    pixels = seen['pixels'].movedim(1, -1)
    assert found['radius_pixel'] == pytest.approx(2 * pixels.norm(dim=-1).mean().item())
    text = seen['text']
    assert found['radius_text'] == pytest.approx(2 * text.norm(dim=-1).mean().item())
    assert found['clipped_vision'] == 0
    assert found['clipped_text'] == 1
    assert found['curvature'] == pytest.approx(0.01)
    ((name, step),) = runner.pictures
    assert (name, step) == ('hyperclip_radius', 2)
    runner.iter = 2
    hook.before_train_iter(runner, 0)
    hook.after_train_iter(runner, 0)
    assert len(runner.pictures) == 1


def test_other_threads_and_copies_do_not_disturb(runner):
    hook = HyperbolicRadiusHook(interval=2)
    hook.before_train_iter(runner, 0)
    data = batch()
    run(runner.model, data)
    expected = hook._found['pixels'].clone()
    thread = threading.Thread(target=run, args=(copy.deepcopy(runner.model), batch()))
    thread.start()
    thread.join()
    run(runner.model, data)
    torch.testing.assert_close(hook._found['pixels'], expected)
    assert not hook._found['pixels'].requires_grad
    hook.after_train_iter(runner, 0)


def test_nothing_is_kept_in_the_model_or_the_hook(runner):
    hook = HyperbolicRadiusHook(interval=2)
    before = set(vars(runner.model))
    for runner.iter in (0, 1, 2):
        hook.before_train_iter(runner, 0)
        run(runner.model, batch())
        hook.after_train_iter(runner, 0)
    assert set(vars(runner.model)) == before
    assert hook._found is None
    assert len(runner.pictures) == 1


def test_an_iteration_that_failed_does_not_enter_the_next(runner):
    hook = HyperbolicRadiusHook(interval=1)
    hook.before_train_iter(runner, 0)
    run(runner.model, batch())
    hook.before_train_iter(runner, 0)
    assert hook._found == {}
    hook._close()


def test_models_that_it_cannot_serve(runner):
    hook = HyperbolicRadiusHook(interval=2)
    hook.before_train_iter(runner, 0)
    with pytest.raises(ValueError, match='shows its text and pixel embeddings.*got \\[\\]'):
        hook.after_train_iter(runner, 0)
    runner.model = build()
    with pytest.raises(ValueError, match='OpenVocabSegmentor has no HyperCLIP adapter: found None'):
        hook.before_train(runner)


@pytest.mark.parametrize('c', [0.01, 1.0])
def test_radius_is_the_distance_from_the_origin(c):
    z = torch.randn(3, 5, 2, 2, dtype=torch.float64) * 0.3 / c**0.5
    points = poincare.expmap0(z.movedim(1, -1).flatten(0, 2), c)
    expected = poincare.radius(points, c)
    torch.testing.assert_close(hyperbolic_radius(z, 1).double(), expected, rtol=1e-5, atol=1e-6)


def test_histogram():
    picture = draw_histogram({'text': torch.rand(50), 'pixel': 3 + torch.rand(90)})
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.std() > 5


def test_bad_input():
    with pytest.raises(ValueError, match='interval must be at least 1, got 0'):
        HyperbolicRadiusHook(interval=0)
