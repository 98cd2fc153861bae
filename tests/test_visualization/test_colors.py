"""Colors of the nodes of a tree."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hyper_mm.visualization import (
    tree_colors,
)


def lightness(colors: np.ndarray) -> np.ndarray:
    pixels = (colors[:, None] * 255).round().astype(np.uint8)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[:, 0, 0].astype(float)


@pytest.mark.parametrize(('leaves', 'levels'), [(32, 4), (16, 3), (64, 5), (64, 3), (96, 2)])
def test_children_are_shades_of_their_parent(leaves, levels):
    nodes = [leaves >> level for level in range(levels)]
    colors = tree_colors(nodes)
    assert [len(c) for c in colors] == nodes
    assert all((c >= 0).all() and (c <= 1).all() for c in colors)
    for children, parents in zip(colors, colors[1:]):
        pairs = lightness(children).reshape(-1, 2)
        assert (pairs[:, 0] < lightness(parents)).all() and (lightness(parents) < pairs[:, 1]).all()
    if len(colors[-1]) <= 8:  # no shade is nearer to another family than to its own
        distance = np.linalg.norm(colors[-2][:, None] - colors[-1], axis=-1)
        assert (distance.argmin(1) == np.arange(nodes[-2]) // 2).all()


@pytest.mark.parametrize('nodes', [(), (0,), (8, 3), (4, 8)])
def test_colors_of_no_tree(nodes):
    with pytest.raises(ValueError, match='nodes must'):
        tree_colors(nodes)


def test_old_names_are_still_found():
    import hyper_mm.visualization as visualization

    with pytest.warns(DeprecationWarning, match='tree_colours .*tree_colors'):
        assert visualization.tree_colours is visualization.tree_colors
    with pytest.raises(AttributeError, match='no attribute'):
        visualization.tree_hues  # noqa: B018
