"""Sky, hills and ground, as the camera sees them."""

import numpy as np
import pytest

from hyper_mm.datasets.part_scenes import PART_CLASSES
from hyper_mm.datasets.part_scenes.canvas import Canvas
from hyper_mm.datasets.part_scenes.landscape import (
    DAYLIGHTS,
    View,
    paint_ground,
    paint_hills,
    paint_sky,
)

VIEW = View((100, 120), 40.0, 3.0)


def rows_of(canvas):
    """Part -> first and last row that show it, in pixels of the final picture."""
    parts = canvas.maps()[0]
    factor = parts.shape[0] / VIEW.size[0]
    return {
        PART_CLASSES[i - 1]: tuple(np.nonzero((parts == i).any(1))[0][[0, -1]] / factor)
        for i in np.unique(parts[parts > 0])
    }


def test_perspective():
    assert VIEW.row(0) == 40 and VIEW.row(1) == 100
    # what is as high as the camera reaches the horizon, wherever it stands
    for row in (50.0, 70.0, 100.0):
        assert row - VIEW.scale(row) * VIEW.eye_level == pytest.approx(VIEW.horizon)


@pytest.mark.parametrize('name', DAYLIGHTS)
def test_sky_ends_at_the_horizon(name):
    seen = set()
    for seed in range(6):
        canvas = Canvas(VIEW.size, np.random.default_rng(seed), night=name == 'night')
        paint_sky(canvas, VIEW, DAYLIGHTS[name], np.random.default_rng(seed))
        found = rows_of(canvas)
        assert found['clear sky'][0] == 0 and found['clear sky'][1] <= VIEW.horizon + 2
        seen |= found.keys()
    assert seen <= {'clear sky', 'sun', 'cloud'}
    assert ('sun' in seen) <= (DAYLIGHTS[name].sun > 0)


def test_hills_stand_on_the_horizon():
    for seed in range(6):
        canvas = Canvas(VIEW.size, np.random.default_rng(seed))
        paint_hills(canvas, VIEW, np.random.default_rng(seed))
        (top, low) = rows_of(canvas)['hill']
        assert 10 < top < VIEW.horizon and low <= VIEW.horizon + 3


@pytest.mark.parametrize('kind', ['grass', 'sand', 'asphalt', 'pavement', 'water'])
def test_ground_fills_what_lies_below_the_horizon(kind):
    canvas = Canvas(VIEW.size, np.random.default_rng(0))
    paint_ground(canvas, VIEW, ((kind, 1.0),), np.random.default_rng(0))
    top, low = rows_of(canvas)[kind]
    assert top <= VIEW.horizon + 1 and low >= VIEW.size[0] - 1
    parts = canvas.maps()[0]
    factor = parts.shape[0] // VIEW.size[0]
    assert (parts[int(VIEW.horizon + 2) * factor :] > 0).all()


def test_bands_follow_each_other():
    canvas = Canvas(VIEW.size, np.random.default_rng(0))
    paint_ground(canvas, VIEW, (('water', 0.4), ('sand', 1.0)), np.random.default_rng(0))
    found = rows_of(canvas)
    assert found['water'][1] <= VIEW.row(0.4) + 3 and found['sand'][0] >= VIEW.row(0.4) - 3
