"""The four tiers of captions."""

from __future__ import annotations

from hyper_mm.datasets import part_scenes as ps
from hyper_mm.datasets.part_scenes.captions import describe


class TestCaptions:
    @staticmethod
    def thing(whole, area, color=None):
        return ps.Instance(1, whole, (0, 0, 1, 1), area, color)

    def test_four_tiers(self):
        things = [
            self.thing('person', 150, 'red'),
            self.thing('house', 500, 'red'),
            self.thing('person', 120, 'blue'),
            self.thing('lamp', 60),
            self.thing('dog', 40, 'orange'),
        ]
        assert describe('park', 'at sunset', things, 10_000) == (
            'a green scene',
            'a park',
            'a park with a red house and two people',
            'a park at sunset with a red house, two people, a lamp and an orange dog',
        )

    def test_small_things_are_not_mentioned(self):
        things = [self.thing('car', 9, 'red'), self.thing('person', 10, 'blue')]
        captions = describe('city', 'at night', things, 10_000)
        assert captions[2] == 'a city with a person in blue'

    def test_empty_scene(self):
        captions = describe('countryside', 'on a sunny day', [], 10_000)
        assert captions[1:3] == ('the countryside', 'the countryside with nobody in it')

    def test_samples_have_growing_captions(self, samples):
        for sample in samples:
            assert len(sample.captions) == 4
            assert sample.scene in sample.captions[1]
            assert sample.captions[2].startswith(sample.captions[1])
            assert len(sample.captions[3]) >= len(sample.captions[2])
