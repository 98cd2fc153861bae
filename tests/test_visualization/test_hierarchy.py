"""Pictures of hierarchies: layout, colors, figures and bad input."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from hyper_mm.visualization import (
    draw_hierarchy,
)
from tests.helpers.tangents import make_tangents


def make_attention(leaves: int, levels: int, positions: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    nodes = [leaves >> level for level in range(levels)]
    return [rng.dirichlet(np.full(positions, 0.3), n) for n in nodes]


def draw(leaves=8, levels=3, size=(4, 5), image=(40, 50), **options) -> np.ndarray:
    attention = make_attention(leaves, levels, size[0] * size[1])
    picture = np.random.default_rng(1).integers(0, 256, (*image, 3), dtype=np.uint8)
    return draw_hierarchy(picture, attention, size, **options)


@pytest.mark.parametrize(
    ('leaves', 'levels', 'size', 'image', 'space'),
    [
        (32, 4, (7, 12), (96, 160), 'lorentz'),
        (16, 3, (6, 6), (48, 48), 'euclidean'),
        (64, 5, (9, 3), (300, 100), 'lorentz'),
        (64, 3, (5, 5), (33, 47), None),
        (2, 1, (1, 2), (20, 40), 'euclidean'),
        (1, 1, (2, 2), (32, 32), 'lorentz'),
    ],
)
def test_picture_of_any_tree_and_size(leaves, levels, size, image, space):
    tangents = None if space is None else make_tangents(leaves, levels)
    curvature = 0.7 if space == 'lorentz' else None
    picture = draw(leaves, levels, size, image, tangents=tangents, curvature=curvature)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3 and picture.shape[1:] == (1300, 3) and 400 < picture.shape[0] < 1600
    assert picture.std() > 10  # something is drawn ...
    assert (picture[:, :10] == 255).all() and (picture[:, -8:] == 255).all()  # ... within the page


def test_picture_is_deterministic_and_follows_its_input():
    tangents = make_tangents(8, 3)
    first = draw(tangents=tangents, curvature=1.0)
    assert np.array_equal(first, draw(tangents=tangents, curvature=1.0))
    assert not np.array_equal(first, draw(tangents=2 * tangents, curvature=1.0))


def test_segmentation_gets_a_panel_with_its_palette():
    labels = np.zeros((40, 50), dtype=np.int64)
    labels[:, 25:] = 1
    options = dict(
        segmentation=labels, classes=('left', 'right'), palette=[(255, 0, 0), (0, 0, 255)]
    )
    with_labels, without = draw(**options), draw()
    assert not np.array_equal(with_labels[:200], without[:200])
    red = (with_labels[..., 0] > 170) & (with_labels[..., 1:].max(-1) < 90)
    blue = (with_labels[..., 2] > 170) & (with_labels[..., :2].max(-1) < 90)
    assert red.sum() > 1000 and blue.sum() > 1000


def saturation(attention: np.ndarray, rows=slice(300, 550), columns=slice(1100, 1250)) -> int:
    """Most colorful pixel in a part of the last panel, of a gray image of 4 x 4 positions."""
    image = np.full((64, 64, 3), 128, dtype=np.uint8)
    part = draw_hierarchy(image, [attention], (4, 4))[rows, columns].astype(int)
    return np.ptp(part, axis=-1).max()


def test_positions_are_gray_that_no_node_or_every_node_sees():
    corner = np.zeros((2, 16))
    corner[0, 0] = corner[1, 1] = 1
    assert saturation(corner) == 0
    assert saturation(np.ones((2, 16))) == 0
    corner[1, :] = 1 / 16
    assert saturation(corner) > 50


def test_extreme_attention_and_coincident_nodes():
    attention = [np.eye(8, 12), np.full((4, 12), 1 / 12), np.eye(2, 12)]
    image = np.zeros((30, 40, 3), dtype=np.uint8)
    for tangents in (np.zeros((14, 3)), np.full((14, 3), 30.0), np.ones((14, 1))):
        picture = draw_hierarchy(image, attention, (3, 4), tangents, 1.0)
        assert picture.std() > 10


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(image=np.zeros((4, 4), np.uint8)), 'image must be of shape'),
        (dict(feature_size=(4, 4)), 'feature_size must have'),
        (dict(attention=[]), 'attention must hold a matrix'),
        (dict(attention=[np.ones((4, 20)), np.ones((2, 10))]), 'attention must hold a matrix'),
        (dict(attention=[np.ones((4, 20)), np.ones((3, 20))]), 'each level dividing'),
        (dict(attention=[np.full((4, 20), np.nan)]), 'attention must hold weights'),
        (dict(attention=[np.zeros((4, 20))]), 'attention must hold weights'),
        (dict(tangents=np.zeros((5, 2))), 'tangents must have a row for each of the 6 nodes'),
        (dict(tangents=np.full((6, 2), np.inf)), 'tangents must be finite'),
        (dict(tangents=np.ones((6, 2)), curvature=0.0), 'c must be positive'),
        (dict(segmentation=np.zeros((3, 3), int)), 'segmentation must be of the shape'),
    ],
)
def test_bad_input(change, message):
    good = dict(
        image=np.zeros((8, 10, 3), np.uint8),
        attention=[np.ones((4, 20)), np.ones((2, 20))],
        feature_size=(4, 5),
    )
    with pytest.raises(ValueError, match=message):
        draw_hierarchy(**{**good, **change})


def test_image_must_be_bytes():
    with pytest.raises(TypeError, match='uint8'):
        draw_hierarchy(np.zeros((8, 8, 3)), [np.ones((2, 4))], (2, 2))


def test_package_is_light_to_import():
    code = (
        'import sys, hyper_mm.visualization as v; '
        'assert "matplotlib" not in sys.modules and "draw_hierarchy" in dir(v)'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


def test_image_of_the_readme(repo):
    path = repo / 'docs' / 'images' / 'hierarchy.png'
    assert path.stat().st_size < 400_000
    assert cv2.imread(str(path)).shape[1] == 1300
