"""Layouts on disk, interrupted and finished sets."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from hyper_mm.datasets import part_scenes as ps
from hyper_mm.datasets.part_scenes.coco import panoptic_map

SIZE = (48, 64)


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in sorted(folder.rglob('*')) if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def times(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.rglob('*') if p.is_file()}


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
