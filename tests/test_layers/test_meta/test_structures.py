"""Structures of label maps."""

import pytest
import torch

from hyper_mm.layers.meta.structures import resolve_structures, structure_masks


def test_each_class_is_a_structure_by_default():
    assert resolve_structures(None, 3) == [[1], [2]]
    assert resolve_structures(None, 3, background=None) == [[0], [1], [2]]
    assert resolve_structures([(1, 2), [2]], 3) == [[1, 2], [2]]


def test_masks_are_unions():
    labels = torch.tensor([[[0, 1, 2, 255]]])
    masks = structure_masks(labels, [[1, 2], [2]])
    assert masks.shape == (1, 2, 1, 4)
    assert masks[0, :, 0].tolist() == [[False, True, True, False], [False, False, True, False]]


@pytest.mark.parametrize('structures', [[], [[]], [[3]], [[-1]]])
def test_bad_structures(structures):
    with pytest.raises(ValueError, match='structures'):
        resolve_structures(structures, 3)


def test_no_structure_left():
    with pytest.raises(ValueError, match='num_classes'):
        resolve_structures(None, 1)
