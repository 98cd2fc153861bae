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
from hyper_mm.engine.hooks.merge_adapters_hook import MergeAdaptersHook  # noqa: E402
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
    run(runner.model, batch())
    hook = HyperbolicRadiusHook(interval=2)
    hook.after_train_iter(runner, 0)
    found = {
        name.rpartition('/')[2]: runner.message_hub.get_scalar(name).current()
        for name in runner.message_hub.log_scalars
    }
    pixels = runner.model.last_pixels.movedim(1, -1)
    assert found['radius_pixel'] == pytest.approx(2 * pixels.norm(dim=-1).mean().item())
    text = runner.model.last_text
    assert found['radius_text'] == pytest.approx(2 * text.norm(dim=-1).mean().item())
    assert found['clipped_vision'] == 0
    assert found['clipped_text'] == 1
    assert found['curvature'] == pytest.approx(0.01)
    ((name, step),) = runner.pictures
    assert (name, step) == ('hyperclip_radius', 2)
    runner.iter = 2
    hook.after_train_iter(runner, 0)
    assert len(runner.pictures) == 1


def test_merges_for_evaluation_only(runner):
    hook, adapter = MergeAdaptersHook(), runner.model.adapter
    for before, after in ((hook.before_val, hook.after_val), (hook.before_test, hook.after_test)):
        before(runner)
        assert adapter.merged
        after(runner)
        assert not adapter.merged


def test_a_model_without_an_adapter(runner):
    runner.model = build()
    with pytest.raises(ValueError, match='OpenVocabSegmentor has no HyperCLIP adapter: found None'):
        MergeAdaptersHook().before_val(runner)


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
