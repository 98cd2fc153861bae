"""One visible thing."""

import dataclasses

import pytest

from hyper_mm.datasets.part_scenes.instance import Instance


def test_is_a_value():
    one = Instance(1, 'car', (0, 0, 4, 3), 9, 'red')
    assert one == Instance(1, 'car', (0, 0, 4, 3), 9, 'red') and len({one, one}) == 1
    assert one != dataclasses.replace(one, color=None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.area = 3
