"""The draw of shots, and the halves."""

from __future__ import annotations

import random

import pytest

pytest.importorskip('mmengine')


from hyper_mm.datasets.shots import draw_shots, half  # noqa: E402

LABELS = [i % 3 for i in range(20)] + [3] * 4


class TestShots:
    def test_rule_of_the_official_code(self):
        items = list(enumerate(LABELS))
        random.seed(2)
        members = [[item for item in items if item[1] == label] for label in range(4)]
        expected = [x for found in members for x in random.sample(found, 4)]
        assert draw_shots(items, 4, random.Random(2)) == expected

    def test_few_images_draw_nothing(self):
        items = list(enumerate([0, 0, 1, 1, 1]))
        drawn = draw_shots(items, 3, random.Random(0))
        assert drawn[:2] == items[:2]
        assert drawn[2:] == random.Random(0).sample(items[2:], 3)

    @pytest.mark.parametrize('count, base', [(1, 1), (2, 1), (5, 3), (100, 50)])
    def test_halves(self, count, base):
        assert len(half(range(count), 'base')) == base
        assert [*half(range(count), 'base'), *half(range(count), 'new')] == list(range(count))
        assert half([4, 7], 'all') == [4, 7]
