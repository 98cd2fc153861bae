"""Points and geodesics in the disk."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hyper_mm.ops import lorentz
from hyper_mm.visualization import (
    draw_poincare_disk,
)
from hyper_mm.visualization.poincare_disk import flatten_tangents, geodesic
from tests.helpers.tangents import make_tangents


@pytest.mark.parametrize('c', [0.3, 1.0, 4.0])
def test_disk_keeps_the_distance_from_the_center(c):
    import torch

    tangents = make_tangents(8, 3)
    points = flatten_tangents(tangents, c)
    ball = lorentz.to_poincare(lorentz.expmap0(torch.from_numpy(tangents), c), c)
    expected = ball.norm(dim=-1).numpy() * c**0.5
    np.testing.assert_allclose(np.linalg.norm(points, axis=-1), expected, rtol=1e-6)


def test_geodesics_are_straight_through_the_center_and_bend_elsewhere():
    straight = geodesic(np.array([-0.5, 0.0]), np.array([0.9, 0.0]))
    np.testing.assert_allclose(straight[:, 1], 0, atol=1e-12)
    np.testing.assert_allclose(straight[[0, -1], 0], [-0.5, 0.9], atol=1e-9)
    bent = geodesic(np.array([0.8, 0.0]), np.array([0.0, 0.8]), 25)
    assert np.linalg.norm(bent[12]) < 0.8 / np.sqrt(2) - 0.1


def test_disk_draws_points_where_it_says():
    figure = Figure()
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    tangents = make_tangents(4, 2)
    points = draw_poincare_disk(ax, tangents, 1.0, np.zeros((6, 3)), [4, 4, 5, 5, None, None])
    edges, markers = ax.collections
    drawn = markers.get_offsets()
    assert points.shape == (6, 2) and sorted(map(tuple, drawn)) == sorted(map(tuple, points))
    assert len(edges.get_segments()) == 4
