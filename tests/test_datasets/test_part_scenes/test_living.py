"""People, dogs, trees and bushes."""

import pytest

from hyper_mm.datasets.part_scenes.common import COLORS
from tests.helpers.drawings import check_drawing, draw


@pytest.mark.parametrize('whole', ['person', 'dog', 'tree', 'bush'])
def test_draws_its_parts_within_its_extent(whole):
    check_drawing(whole)


def test_a_color_is_named_where_it_is_that_of_the_whole():
    assert {draw('tree', seed)[1] for seed in range(3)} == {None}
    assert {draw('person', seed)[1] for seed in range(8)} <= set(COLORS)
