"""Rendered scenes and objects: contents, balance, determinism."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hyper_mm.datasets import part_scenes as ps

SIZE = (48, 64)


def digest(sample: ps.Sample) -> str:
    maps = (sample.image, sample.parts, sample.wholes, sample.instances)
    text = repr((sample.records, sample.scene, sample.captions))
    return hashlib.sha256(b''.join(m.tobytes() for m in maps) + text.encode()).hexdigest()


class TestSamples:
    def test_shapes_and_types(self):
        sample = ps.render_scene(0, 0, SIZE)
        assert sample.image.shape == (*SIZE, 3) and sample.image.dtype == np.uint8
        assert sample.parts.shape == sample.wholes.shape == sample.instances.shape == SIZE
        assert sample.parts.dtype == sample.wholes.dtype == np.uint8
        assert sample.instances.dtype == np.int32

    @pytest.mark.parametrize('size', [(32, 32), (33, 97), (97, 33), (160, 160)])
    def test_any_size(self, size):
        sample = ps.render_scene(1, 2, size)
        assert sample.parts.shape == size and sample.image.shape == (*size, 3)
        assert len(np.unique(sample.parts)) >= 5

    def test_every_class_and_scene_occurs(self, samples):
        in_images = np.zeros(len(ps.PART_CLASSES) + 1, int)
        for sample in samples:
            in_images[np.unique(sample.parts)] += 1
        rare = {p: int(in_images[i]) for p, i in ps.PART_IDS.items() if in_images[i] < 5}
        assert not rare
        assert in_images[0] > 0
        assert {sample.scene for sample in samples} == set(ps.SCENE_CLASSES)

    def test_class_balance(self, samples):
        pixels = np.bincount(np.concatenate([s.parts.ravel() for s in samples]))
        share = pixels / pixels.sum()
        assert share[0] < 0.02
        assert share[1:].max() < 0.4 and share[1:].min() > 1e-4

    def test_wholes_follow_parts(self, samples):
        for sample in samples:
            assert np.array_equal(sample.wholes, ps.PART_TO_WHOLE_IDS[sample.parts])

    def test_instances_are_the_things(self, samples):
        things = [ps.WHOLE_IDS[name] for name in ps.THING_CLASSES]
        for sample in samples:
            assert np.array_equal(sample.instances > 0, np.isin(sample.wholes, things))

    def test_records_describe_instances(self, samples):
        for sample in samples:
            assert [r.id for r in sample.records] == list(range(1, sample.instances.max() + 1))
            for record in sample.records:
                mask = sample.instances == record.id
                assert set(sample.wholes[mask]) == {ps.WHOLE_IDS[record.whole]}
                ys, xs = np.nonzero(mask)
                x, y, width, height = record.bbox
                assert (x, y) == (xs.min(), ys.min()) and record.area == mask.sum()
                assert (x + width - 1, y + height - 1) == (xs.max(), ys.max())

    def test_things_hide_each_other(self, samples):
        """Some houses, at least, are seen without a wall, a roof or a door."""
        partial = 0
        needed = [ps.PART_IDS[f'house {part}'] for part in ('roof', 'wall', 'door')]
        for sample in samples:
            for record in (r for r in sample.records if r.whole == 'house'):
                seen = np.unique(sample.parts[sample.instances == record.id])
                partial += not np.isin(needed, seen).all()
        assert partial > 0

    def test_light_varies(self, samples):
        brightness = [sample.image.mean() for sample in samples]
        assert np.std(brightness) > 15


class TestDeterminism:
    def test_same_arguments_same_sample(self):
        assert digest(ps.render_scene(5, 7, SIZE)) == digest(ps.render_scene(5, 7, SIZE))

    def test_independent_of_what_came_before(self):
        alone = digest(ps.render_scene(5, 3, SIZE))
        series = [digest(ps.render_scene(5, i, SIZE)) for i in range(4)]
        assert series[3] == alone and len(set(series)) == 4

    def test_seed_split_and_index_matter(self):
        variants = [(0, 0, 'train'), (1, 0, 'train'), (0, 1, 'train'), (0, 0, 'val')]
        digests = {digest(ps.render_scene(s, i, SIZE, split)) for s, i, split in variants}
        assert len(digests) == 4

    def test_same_in_another_process_without_frameworks(self):
        """Also: importing and drawing need no framework at all."""
        code = (
            'import sys\n'
            'for name in ("torch", "mmengine", "mmcv", "mmseg"): sys.modules[name] = None\n'
            'from hyper_mm.datasets import part_scenes as ps\n'
            'import hashlib\n'
            's = ps.render_scene(2, 4, (48, 64))\n'
            'print(hashlib.sha256(s.image.tobytes() + s.parts.tobytes()).hexdigest())\n'
        )
        root = Path(ps.__file__).resolve().parents[3]
        done = subprocess.run(
            [sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=root
        )
        sample = ps.render_scene(2, 4, SIZE)
        here = hashlib.sha256(sample.image.tobytes() + sample.parts.tobytes()).hexdigest()
        assert done.stdout.strip() == here

    def test_scene_class_without_drawing(self):
        for i in range(5):
            for split in ps.SPLITS:
                sample = ps.render_scene(9, i, SIZE, split)
                assert ps.scene_class(9, i, split) == sample.scene


class TestObjects:
    @pytest.mark.parametrize('whole', ps.THING_CLASSES)
    def test_one_object_with_all_its_parts(self, whole):
        seen: set[int] = set()
        for i in range(6):
            sample = ps.render_object(whole, 0, i)
            assert [record.whole for record in sample.records] == [whole]
            assert sample.records[0].area > 0.01 * sample.parts.size
            seen |= set(np.unique(sample.parts[sample.instances == 1]))
        assert seen == {ps.PART_IDS[p] for p, w in ps.PART_TO_WHOLE.items() if w == whole}

    def test_classes_have_streams_of_their_own(self):
        images = [ps.render_object(name, 0, 0, SIZE).image.tobytes() for name in ps.THING_CLASSES]
        assert len(set(images)) == len(images)

    def test_backgrounds_vary(self):
        assert len({ps.render_object('boat', 0, i, SIZE).scene for i in range(20)}) > 4

    @pytest.mark.parametrize('name', ['sky', 'castle', ''])
    def test_unknown_class(self, name):
        with pytest.raises(ValueError, match='whole_class must be one of'):
            ps.render_object(name, 0, 0)
