"""The table of things, and how one of them is placed."""

import numpy as np
import pytest

from hyper_mm.datasets import part_scenes as ps
from hyper_mm.datasets.part_scenes.canvas import Canvas
from hyper_mm.datasets.part_scenes.objects import DRAW, EXTENT, draw_object


def test_tables_hold_every_thing():
    assert DRAW.keys() == EXTENT.keys() == set(ps.THING_CLASSES)


def labels(scale, foot, seed=0):
    rng = np.random.default_rng(seed)
    canvas = Canvas((120, 120), rng)
    draw_object(canvas, 'house', foot, scale, rng, 1)
    return canvas.maps()[0] > 0


def test_size_follows_the_scale_and_the_foot_stays():
    small, large = labels(5.0, (60, 100)), labels(10.0, (60, 100))
    assert large.sum() / small.sum() == pytest.approx(4, rel=0.15)
    bottoms = [np.nonzero(m.any(1))[0].max() for m in (small, large)]
    assert abs(bottoms[0] - bottoms[1]) <= 4


def test_place_moves_the_labels_alone():
    a, b = labels(5.0, (40, 80)), labels(5.0, (60, 90))
    shift = a.shape[0] // 120
    moved = np.roll(a, (10 * shift, 20 * shift), (0, 1))
    assert (moved != b).mean() < 0.005


def test_both_sides_occur():
    """The tail of a dog tells where it looks."""
    sides = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        canvas = Canvas((120, 120), rng)
        draw_object(canvas, 'dog', (60, 100), 20.0, rng, 1)
        parts = canvas.maps()[0]
        tail, head = (
            np.nonzero(parts == ps.PART_IDS[f'dog {p}'])[1].mean() for p in ('tail', 'head')
        )
        sides.add(bool(tail < head))
    assert sides == {False, True}
