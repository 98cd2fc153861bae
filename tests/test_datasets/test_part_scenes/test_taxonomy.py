"""Classes of PartScenes, their tree and their colors."""

from __future__ import annotations

import pytest

from hyper_mm.datasets import part_scenes as ps


class TestTaxonomy:
    def test_tree_holds_every_class_once(self):
        tree = ps.part_whole_tree()
        wholes = [whole for branch in tree.values() for whole in branch]
        parts = [p for branch in tree.values() for parts in branch.values() for p in parts]
        assert tuple(tree) == ps.SUPER_CLASSES
        assert tuple(wholes) == ps.WHOLE_CLASSES and len(set(wholes)) == len(wholes)
        assert tuple(parts) == ps.PART_CLASSES and len(set(parts)) == len(parts)

    def test_maps_agree_with_tree(self):
        for name, branch in ps.part_whole_tree().items():
            for whole, parts in branch.items():
                assert ps.WHOLE_TO_SUPER[whole] == name
                assert all(ps.PART_TO_WHOLE[part] == whole for part in parts)

    def test_tree_is_a_copy(self):
        ps.part_whole_tree()['building'].clear()
        assert 'house' in ps.part_whole_tree()['building']

    def test_label_table(self):
        assert ps.PART_TO_WHOLE_IDS[0] == 0
        for part, whole in ps.PART_TO_WHOLE.items():
            assert ps.PART_TO_WHOLE_IDS[ps.PART_IDS[part]] == ps.WHOLE_IDS[whole]

    def test_things_come_before_stuff(self):
        assert ps.THING_CLASSES + ps.STUFF_CLASSES == ps.WHOLE_CLASSES
        assert {'house', 'person', 'car', 'tree'} <= set(ps.THING_CLASSES)
        assert {'sky', 'grass', 'road'} <= set(ps.STUFF_CLASSES)

    @pytest.mark.parametrize('level', ['PART', 'WHOLE'])
    def test_palettes_are_distinct_colors(self, level):
        classes, palette = getattr(ps, f'{level}_CLASSES'), getattr(ps, f'{level}_PALETTE')
        assert len(set(palette)) == len(palette) == len(classes)
        assert all(0 <= value <= 255 for color in palette for value in color)

    def test_scene_groups_cover_scenes(self):
        assert len(ps.SCENE_CLASSES) == len(set(ps.SCENE_CLASSES)) >= 8
        assert [s for group in ps.SCENE_GROUPS.values() for s in group] == list(ps.SCENE_CLASSES)
