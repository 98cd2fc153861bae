"""Cars, buses, bicycles and boats."""

import numpy as np
import pytest

from tests.helpers.drawings import check_drawing, drawn


@pytest.mark.parametrize('whole', ['car', 'bus', 'bicycle', 'boat'])
def test_draws_its_parts_within_its_extent(whole):
    check_drawing(whole)


def test_a_car_is_seen_from_the_side_or_along_the_road():
    side, front = (drawn('car', front_view=front).maps()[0] > 0 for front in (False, True))
    widths = [int(np.ptp(np.nonzero(m)[1])) for m in (side, front)]
    assert widths[1] < 0.7 * widths[0]
