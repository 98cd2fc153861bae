"""PartScenes: taxonomy, drawing, captions and the layouts on disk."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from hyper_mm.datasets import part_scenes as ps
from hyper_mm.datasets.part_scenes.canvas import Canvas
from hyper_mm.datasets.part_scenes.captions import describe
from hyper_mm.datasets.part_scenes.coco import encode_rle, panoptic_map
from tests.helpers.tools import load_tool

SIZE = (48, 64)


def digest(sample: ps.Sample) -> str:
    maps = (sample.image, sample.parts, sample.wholes, sample.instances)
    text = repr((sample.records, sample.scene, sample.captions))
    return hashlib.sha256(b''.join(m.tobytes() for m in maps) + text.encode()).hexdigest()


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in sorted(folder.rglob('*')) if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def times(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.rglob('*') if p.is_file()}


@pytest.fixture(scope='module')
def samples() -> list[ps.Sample]:
    return [ps.render_scene(seed=0, index=i) for i in range(100)]


@pytest.fixture(scope='module')
def written(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('part_scenes')
    ps.generate(out, ('ade', 'coco', 'imagenet'), 14, 12, SIZE, seed=3, progress=False)
    return out


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


class TestCanvas:
    def test_labels_follow_the_shape(self):
        canvas = Canvas((40, 40), np.random.default_rng(0))
        square = np.array([[20.0, 20.0], [59.0, 20.0], [59.0, 59.0], [20.0, 59.0]])
        canvas.fill([square], label=3, instance=2, color=(1.0, 0.0, 0.0))
        image, parts, instances = canvas.develop((1, 1, 1), 0.0, np.random.default_rng(0))
        expected = np.zeros((40, 40), bool)
        expected[10:30, 10:30] = True
        assert np.array_equal(parts == 3, expected)
        assert np.array_equal(instances == 2, expected)
        assert np.array_equal(image[..., 0] > 128, expected)

    def test_later_shapes_hide_earlier_ones(self):
        canvas = Canvas((40, 40), np.random.default_rng(0))
        for label, end in ((1, 70.0), (2, 40.0)):
            shape = np.array([[10.0, 10.0], [end, 10.0], [end, 70.0], [10.0, 70.0]])
            canvas.fill([shape], label=label, instance=label, color=(0.5, 0.5, 0.5))
        parts, instances, _ = canvas.maps()
        assert parts[40, 20] == 2 and parts[40, 60] == 1 and parts[5, 5] == 0
        assert np.array_equal(parts, instances)

    def test_outside_is_ignored(self):
        canvas = Canvas((40, 40), np.random.default_rng(0))
        shape = np.array([[-50.0, -50.0], [-10.0, -50.0], [-10.0, -10.0]])
        canvas.fill([shape], label=1, instance=1, color=(0.5, 0.5, 0.5))
        assert not canvas.maps()[0].any()


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


class TestAde:
    def test_layout(self, written):
        for split, count in (('training', 14), ('validation', 12)):
            stems = {p.stem for p in (written / 'ade' / 'images' / split).glob('*.jpg')}
            assert len(stems) == count
            for folder in ('annotations', 'annotations_wholes'):
                assert {p.stem for p in (written / 'ade' / folder / split).iterdir()} == stems

    def test_maps_are_those_of_the_sample(self, written):
        sample = ps.render_scene(3, 5, SIZE, 'val')
        stem = 'validation/val_000005'
        for folder, expected in (
            ('annotations', sample.parts),
            ('annotations_wholes', sample.wholes),
        ):
            path = written / 'ade' / folder / f'{stem}.png'
            assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), expected)
        image = cv2.imread(str(written / 'ade' / 'images' / f'{stem}.jpg'))[..., ::-1]
        assert np.abs(image.astype(int) - sample.image).mean() < 6

    def test_scene_list(self, written):
        folder = written / 'ade' / 'scenes'
        classes = (folder / 'classes.txt').read_text().split('\n')[:-1]
        assert tuple(classes) == ps.SCENE_CLASSES
        lines = (folder / 'training.txt').read_text().splitlines()
        assert len(lines) == 14
        name, label = lines[4].split()
        assert name == 'train_000004.jpg'
        assert classes[int(label)] == ps.scene_class(3, 4, 'train')


class TestCoco:
    def test_rle_of_known_masks(self):
        mask = np.array([[0, 1], [1, 1]], bool)
        assert encode_rle(mask) == {'size': [2, 2], 'counts': [1, 3]}
        assert encode_rle(np.ones((2, 2), bool))['counts'] == [0, 4]
        assert encode_rle(np.zeros((2, 3), bool))['counts'] == [6]

    def test_instances(self, written):
        content = json.loads((written / 'coco/annotations/instances_val.json').read_text())
        assert [c['name'] for c in content['categories']] == list(ps.THING_CLASSES)
        assert all(
            c['supercategory'] == ps.WHOLE_TO_SUPER[c['name']] for c in content['categories']
        )
        ids = [a['id'] for a in content['annotations']]
        assert ids == list(range(1, len(ids) + 1))
        sample = ps.render_scene(3, 2, SIZE, 'val')
        found = [a for a in content['annotations'] if a['image_id'] == 3]
        assert [a['area'] for a in found] == [r.area for r in sample.records]
        for annotation, record in zip(found, sample.records):
            counts = annotation['segmentation']['counts']
            flat = np.repeat(np.arange(len(counts)) % 2, counts).astype(bool)
            mask = flat.reshape(SIZE, order='F')
            assert np.array_equal(mask, sample.instances == record.id)

    def test_pycocotools_reads_it(self, written):
        coco_module = pytest.importorskip('pycocotools.coco')
        coco = coco_module.COCO(str(written / 'coco/annotations/instances_train.json'))
        assert len(coco.getImgIds()) == 14 and coco.anns
        for annotation in coco.anns.values():
            assert coco.annToMask(annotation).sum() == annotation['area']

    def test_panoptic(self, written):
        folder = written / 'coco' / 'annotations'
        content = json.loads((folder / 'panoptic_train.json').read_text())
        assert [c['name'] for c in content['categories']] == list(ps.WHOLE_CLASSES)
        assert sum(c['isthing'] for c in content['categories']) == len(ps.THING_CLASSES)
        for annotation in content['annotations']:
            png = cv2.imread(str(folder / 'panoptic_train' / annotation['file_name']))
            b, g, r = (png[..., k].astype(int) for k in range(3))
            ids = r + 256 * g + 256**2 * b
            sample = ps.render_scene(3, annotation['image_id'] - 1, SIZE)
            assert np.array_equal(ids, panoptic_map(sample))
            areas = {s['id']: s['area'] for s in annotation['segments_info']}
            assert areas == {int(i): int((ids == i).sum()) for i in np.unique(ids) if i}
            for segment in annotation['segments_info']:
                assert set(sample.wholes[ids == segment['id']]) == {segment['category_id']}

    def test_captions(self, written):
        content = json.loads((written / 'coco/annotations/captions_val.json').read_text())
        assert len(content['annotations']) == 4 * 12
        texts = [a['caption'] for a in content['annotations'] if a['image_id'] == 7]
        assert texts == list(ps.render_scene(3, 6, SIZE, 'val').captions)

    def test_same_pictures_as_ade(self, written):
        ade = (written / 'ade/images/training/train_000003.jpg').read_bytes()
        assert (written / 'coco/train/train_000003.jpg').read_bytes() == ade


class TestImageNet:
    def test_layout(self, written):
        folder = written / 'imagenet'
        classes = (folder / 'classes.txt').read_text().split()
        for split, count in (('train', 14), ('val', 12)):
            names = sorted(p.name for p in (folder / split).iterdir())
            assert names == classes == sorted(ps.THING_CLASSES)
            assert len(list((folder / split).glob('*/*.jpg'))) == count

    def test_too_few_images_for_all_classes(self, tmp_path):
        with pytest.raises(ValueError, match='num_val must each be 0 or at least 12'):
            ps.generate(tmp_path, ['imagenet'], 12, 11, SIZE, progress=False)


class TestGenerate:
    def test_finished_set_is_left_alone(self, written):
        before = times(written)
        ps.generate(written, ('ade', 'coco', 'imagenet'), 14, 12, SIZE, seed=3, progress=False)
        assert times(written) == before

    @pytest.mark.parametrize('name', ['ade', 'coco', 'imagenet'])
    def test_interrupted_set_is_continued(self, tmp_path, name):
        ps.generate(tmp_path, [name], 12, 0, SIZE, progress=False)
        complete, kept = contents(tmp_path), times(tmp_path)
        manifest = tmp_path / name / 'manifest.json'
        manifest.write_text(manifest.read_text().replace('"complete": true', '"complete": false'))
        lost = sorted(tmp_path.rglob('*.jpg'))[::2]
        for path in lost:
            path.unlink()
        ps.generate(tmp_path, [name], 12, 0, SIZE, progress=False)
        assert contents(tmp_path) == complete
        untouched = [p for p in tmp_path.rglob('*.jpg') if p not in lost]
        assert untouched and all(p.stat().st_mtime_ns == kept[p] for p in untouched)

    def test_number_of_images_does_not_matter(self, tmp_path):
        for count in (2, 4):
            ps.generate(tmp_path / str(count), ['ade'], count, 1, SIZE, progress=False)
        small, large = (contents(tmp_path / str(n) / 'ade') for n in (2, 4))
        pictures = [name for name in small if name.endswith(('.jpg', '.png'))]
        assert len(pictures) == 9
        assert all(small[name] == large[name] for name in pictures)

    @pytest.mark.parametrize(
        'change', [{'seed': 1}, {'size': (48, 48)}, {'num_train': 3}, {'num_val': 2}]
    )
    def test_other_parameters_are_refused(self, tmp_path, change):
        ps.generate(tmp_path, ['ade'], 2, 1, SIZE, progress=False)
        before = contents(tmp_path)
        arguments = {'num_train': 2, 'num_val': 1, 'size': SIZE, **change}
        with pytest.raises(FileExistsError, match=next(iter(change))):
            ps.generate(tmp_path, ['coco', 'ade'], **arguments, progress=False)
        assert contents(tmp_path) == before

    def test_overwrite_leaves_nothing_behind(self, tmp_path):
        ps.generate(tmp_path, ['ade'], 4, 1, SIZE, progress=False)
        ps.generate(tmp_path, ['ade'], 2, 0, SIZE, seed=1, overwrite=True, progress=False)
        ps.generate(tmp_path / 'fresh', ['ade'], 2, 0, SIZE, seed=1, progress=False)
        assert contents(tmp_path / 'ade') == contents(tmp_path / 'fresh' / 'ade')

    @pytest.mark.parametrize('content', [None, 'not json', '[]', '{"generator": "other"}'])
    def test_foreign_folder_is_never_touched(self, tmp_path, content):
        (tmp_path / 'ade').mkdir()
        (tmp_path / 'ade' / 'mine.txt').write_text('precious')
        if content is not None:
            (tmp_path / 'ade' / 'manifest.json').write_text(content)
        before = contents(tmp_path)
        with pytest.raises(FileExistsError, match='manifest'):
            ps.generate(tmp_path, ['ade'], 2, 0, SIZE, overwrite=True, progress=False)
        assert contents(tmp_path) == before

    @pytest.mark.parametrize(
        ('change', 'error', 'message'),
        [
            ({'formats': ['voc']}, ValueError, "'voc'"),
            ({'formats': 'ade'}, ValueError, 'formats'),
            ({'formats': []}, ValueError, 'formats'),
            ({'num_train': -1}, ValueError, 'num_train'),
            ({'num_val': 1.5}, TypeError, 'num_val'),
            ({'num_train': 0, 'num_val': 0}, ValueError, 'must not both be 0'),
            ({'size': (16, 64)}, ValueError, r'size\[0\] must be at least 32, got 16'),
            ({'size': 64}, TypeError, 'size'),
            ({'seed': -1}, ValueError, 'seed'),
            ({'seed': True}, TypeError, 'seed'),
        ],
    )
    def test_bad_arguments(self, tmp_path, change, error, message):
        with pytest.raises(error, match=message):
            ps.generate(tmp_path, **{'num_train': 1, 'num_val': 1, **change})
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ('arguments', 'error', 'message'),
        [
            ((0, -1), ValueError, 'index must be at least 0, got -1'),
            ((0, 1.0), TypeError, 'index must be an integer'),
            (('0', 1), TypeError, 'seed must be an integer'),
            ((0, 0, (64, 64, 3)), TypeError, 'size must be a pair'),
            ((0, 0, (64, 64), 'test'), ValueError, "split must be one of .* got 'test'"),
        ],
    )
    def test_bad_arguments_of_a_sample(self, arguments, error, message):
        with pytest.raises(error, match=message):
            ps.render_scene(*arguments)


class TestTool:
    def test_writes(self, repo, tmp_path, monkeypatch, capsys):
        out = str(tmp_path / 'out')
        counts = ['--num-train', '2', '--num-val', '1', '--size', '32', '48']
        monkeypatch.setattr(sys, 'argv', ['part_scenes.py', out, *counts, '--quiet'])
        load_tool('dataset_converters/part_scenes.py').main()
        assert 'ade: ' in capsys.readouterr().out
        image = cv2.imread(str(tmp_path / 'out/ade/images/training/train_000001.jpg'))
        assert image.shape == (32, 48, 3)

    def test_errors_are_messages(self, repo, tmp_path, monkeypatch, capsys):
        arguments = ['part_scenes.py', str(tmp_path), '--size', '8', '8']
        monkeypatch.setattr(sys, 'argv', arguments)
        with pytest.raises(SystemExit) as exit_info:
            load_tool('dataset_converters/part_scenes.py').main()
        assert exit_info.value.code == 2
        assert 'size[0] must be at least 32, got 8' in capsys.readouterr().err
