"""Pictures of segmentations."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip('mmseg')

from hyper_mm.engine.adaptation import pictures  # noqa: E402


def square():
    labels = np.zeros((12, 14), np.uint8)
    labels[3:8, 4:9] = 1
    return labels


def test_outlines_are_inside():
    edge = pictures.outline(square())
    assert edge.sum() == 16 and edge[3, 4] and not edge[5, 6] and not edge[2, 4]
    both = pictures.outlines(np.zeros((12, 14, 3), np.uint8), square(), np.roll(square(), 1, 1))
    colors = {tuple(c) for c in both.reshape(-1, 3).tolist()}
    assert colors == {(0, 0, 0), pictures.TRUTH, pictures.FOUND}


def test_overlays_color_classes_alone():
    image = np.full((12, 14, 3), 100, np.uint8)
    labels = square()
    labels[0, 0] = 255
    found = pictures.overlay(image, labels, [[0, 0, 0], [200, 0, 0]])
    assert (found[labels == 0] == 100).all() and (found[0, 0] == 100).all()
    assert found[5, 6].tolist() == [140, 60, 60] and found[3, 4].tolist() == [200, 0, 0]


def test_confidence_of_softmax_and_sigmoid():
    two = pictures.confidence(torch.tensor([[[0.0, 2.0]], [[0.0, -2.0]]]))
    one = pictures.confidence(torch.tensor([[[0.0, -4.0]]]))
    np.testing.assert_allclose(two, one, rtol=1e-6)
    assert two[0, 0] == 0.5 and two.max() < 1


def test_pictures_in_pages_are_small():
    uri = pictures.as_data_uri(np.zeros((50, 400, 3), np.uint8), side=100)
    head, _, data = uri.partition(',')
    assert head == 'data:image/jpeg;base64'
    width, height = Image.open(io.BytesIO(base64.b64decode(data))).size
    assert width == 100 and height in (12, 13)
