"""Houses, towers, lamps and benches."""

import pytest

from tests.helpers.drawings import check_drawing, drawn


@pytest.mark.parametrize('whole', ['house', 'tower', 'lamp', 'bench'])
def test_draws_its_parts_within_its_extent(whole):
    check_drawing(whole)


def test_windows_are_lit_at_night_alone():
    brightness = {}
    for night in (False, True):
        canvas = drawn('tower', seed=1, night=night)
        _, _, emission = canvas.maps()
        brightness[night] = float((emission > 0.8).mean())
    assert brightness[False] == 0 < brightness[True]
