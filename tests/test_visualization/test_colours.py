"""Colors of the nodes of a tree."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hyper_mm.visualization import (
    tree_colours,
)


def lightness(colours: np.ndarray) -> np.ndarray:
    pixels = (colours[:, None] * 255).round().astype(np.uint8)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[:, 0, 0].astype(float)


@pytest.mark.parametrize(('leaves', 'levels'), [(32, 4), (16, 3), (64, 5), (64, 3), (96, 2)])
def test_children_are_shades_of_their_parent(leaves, levels):
    nodes = [leaves >> level for level in range(levels)]
    colours = tree_colours(nodes)
    assert [len(c) for c in colours] == nodes
    assert all((c >= 0).all() and (c <= 1).all() for c in colours)
    for children, parents in zip(colours, colours[1:]):
        pairs = lightness(children).reshape(-1, 2)
        assert (pairs[:, 0] < lightness(parents)).all() and (lightness(parents) < pairs[:, 1]).all()
    if len(colours[-1]) <= 8:  # no shade is nearer to another family than to its own
        distance = np.linalg.norm(colours[-2][:, None] - colours[-1], axis=-1)
        assert (distance.argmin(1) == np.arange(nodes[-2]) // 2).all()


@pytest.mark.parametrize('nodes', [(), (0,), (8, 3), (4, 8)])
def test_colours_of_no_tree(nodes):
    with pytest.raises(ValueError, match='nodes must'):
        tree_colours(nodes)
