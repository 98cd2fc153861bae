"""Colors and windows that several things share."""

import numpy as np
import pytest

from hyper_mm.datasets.part_scenes import PART_IDS
from hyper_mm.datasets.part_scenes.canvas import Canvas, Pen
from hyper_mm.datasets.part_scenes.common import COLORS, named, one_of, times, vary, windows


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize('name', COLORS)
def test_variations_stay_near_and_in_range(rng, name):
    drawn = np.array([vary(rng, COLORS[name]) for _ in range(200)])
    assert drawn.min() >= 0.02 and drawn.max() <= 0.98
    # brightness varies by 10 percent, each channel by 0.05
    limit = 0.1 * np.array(COLORS[name]) + 0.05 + 1e-9
    assert (np.abs(drawn - COLORS[name]) <= np.maximum(limit, 0.02)).all()
    assert drawn.std(0).min() > 0.005
    np.testing.assert_allclose(vary(rng, COLORS[name], 0.0), COLORS[name])


def test_choices_are_those_named(rng):
    seen = {named(rng, 'red blue blue')[0] for _ in range(50)}
    assert seen == {'red', 'blue'}
    assert {one_of(rng, 'abc') for _ in range(50)} == set('abc')


def test_factors_darken_and_lighten_within_range():
    assert times((0.2, 0.5, 0.8), 0.5) == (0.1, 0.25, 0.4)
    assert times((0.2, 0.5, 0.8), 2.0) == (0.4, 1.0, 1.0)


@pytest.mark.parametrize('night', [False, True])
def test_windows_have_panes_in_frames(rng, night):
    canvas = Canvas((80, 80), rng, night=night)
    boxes = [(x, 1.0, x + 2.0, 3.0) for x in np.arange(-12.0, 12.0, 3.0)]
    windows(Pen(canvas, (40, 60), 3.0, 4), rng, 'house window', boxes, (0.9, 0.9, 0.9))
    parts, instances, emission = canvas.maps()
    assert set(np.unique(parts)) == {0, PART_IDS['house window']}
    assert set(np.unique(instances)) == {0, 4}
    lit = (emission > 0.8).sum() / (parts > 0).sum()
    # 80 percent of each side is pane; a little more than half of the panes is lit at night
    assert lit == 0 if not night else 0.1 < lit < 0.64
