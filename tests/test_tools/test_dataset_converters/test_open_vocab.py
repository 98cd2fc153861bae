"""The converter of the open-vocabulary benchmarks, on files of each original format."""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

import cv2
import numpy as np
import pytest
from PIL import Image

from hyper_mm.datasets.vocabulary import Vocabulary
from tests.helpers.tools import load_tool

SCRIPT = 'dataset_converters/open_vocab.py'


def convert(*arguments, fails=False):
    """What the script prints; in this process, for importing PyTorch takes long."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv = [SCRIPT, *map(str, arguments)]
    with mock.patch.object(sys, 'argv', argv), redirect_stdout(out), redirect_stderr(err):
        try:
            load_tool(SCRIPT).main()
        except SystemExit as end:
            code = end.code
    assert bool(code) == fails, err.getvalue()
    return (err if fails else out).getvalue()


def labels(folder, name):
    return cv2.imread(str(next(folder.glob(f'annotations/*/{name}.*'))), cv2.IMREAD_UNCHANGED)


def image(path, height=6, width=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((height, width, 3), np.uint8))


def test_ade847(data_dir, tmp_path):
    source = data_dir / 'ade20k_full_sample' / 'ADE20K_2021_17_01'
    assert '3 images' in convert('ade847', source, tmp_path, '--split', 'training')
    names = Vocabulary.load('ade847').entries
    for path in source.rglob('*.jpg'):
        found = labels(tmp_path, path.stem)
        assert found.dtype == np.uint16
        assert min(found.shape) <= 512
        assert cv2.imread(str(tmp_path / f'images/training/{path.name}')).shape[:2] == found.shape
        entries = json.loads(path.with_suffix('.json').read_text(encoding='latin-1'))
        entries = entries['annotation']['object']
        wanted = {tuple(e['name'].split(', ')) for e in entries}
        seen = {names[i] for i in np.unique(found) if i != 65535}
        assert seen
        assert seen <= wanted
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*.tif')}
    convert('ade847', source, tmp_path, '--split', 'training')
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*.tif')}


@pytest.mark.parametrize('name', ['pc459', 'pc59'])
def test_pascal_context_from_its_files(tmp_path, name):
    scipy = pytest.importorskip('scipy.io')
    vocabulary = [e[0] for e in Vocabulary.load('pc459').entries]
    context = tmp_path / 'context'
    (context / 'trainval').mkdir(parents=True)
    lines = [f'{i}: {label}' for i, label in enumerate(vocabulary, 1)]
    (context / 'labels.txt').write_text('\n'.join(lines))
    (context / 'pascalcontext_val.txt').write_text('2008_1\n')
    image(tmp_path / 'voc/JPEGImages/2008_1.jpg')
    values = np.zeros((6, 8))
    own = ['accordion', 'table', 'sky', 'wood', 'aeroplane']
    values[0, :5] = [vocabulary.index(n) + 1 for n in own]
    for stem in ('2008_1', '2008_2'):  # the second is not listed
        scipy.savemat(context / f'trainval/{stem}.mat', dict(LabelMap=values))
    arguments = name, tmp_path / 'voc', tmp_path / 'out', '--labels', context
    assert '1 images' in convert(*arguments)
    found = labels(tmp_path / 'out', '2008_1')
    ids = {e[0]: i for i, e in enumerate(Vocabulary.load(name).entries)}
    ids.setdefault('table', ids.get('diningtable'))
    other = 459 if name == 'pc459' else 255
    assert found[0, :6].tolist() == [*(ids.get(n, other) for n in own), other]
    assert found.dtype == (np.uint16 if name == 'pc459' else np.uint8)
    values[0, 0] = 900
    scipy.savemat(context / 'trainval/2008_1.mat', dict(LabelMap=values))
    arguments = name, tmp_path / 'voc', tmp_path / 'other', '--labels', context
    assert '2008_1: labels [900] are not of this data set' in convert(*arguments, fails=True)
    (context / 'labels.txt').write_text('\n'.join(lines).replace('sky', 'skye'))
    assert 'lacks 1 classes' in convert(*arguments, fails=True)


def test_pascal_context_from_json(tmp_path):
    run_lengths = pytest.importorskip('pycocotools.mask')
    image(tmp_path / 'voc/JPEGImages/2008_1.jpg')
    mask = np.zeros((6, 8), np.uint8, order='F')
    mask[:2] = 1
    code = run_lengths.encode(mask)
    code['counts'] = code['counts'].decode()
    names = [e[0] for e in Vocabulary.load('pc59').entries]
    number = names.index('diningtable')
    names[number] = 'table'
    categories = [dict(category_id=i, name=name) for i, name in enumerate(names)]
    data = dict(
        categories=[*categories, dict(category_id=200, name='accordion')],
        images=[
            dict(image_id=1, file_name='2008_1.jpg', height=6, width=8, phase='val'),
            dict(image_id=2, file_name='2008_2.jpg', height=6, width=8, phase='train'),
        ],
        annos_segmentation=[
            dict(image_id=1, category_id=number, segmentation=code),
            dict(image_id=1, category_id=200, segmentation=code),
        ],
    )
    path = tmp_path / 'trainval_merged.json'
    path.write_text(json.dumps(data))
    assert '1 images' in convert('pc59', tmp_path / 'voc', tmp_path / 'out', '--labels', path)
    found = labels(tmp_path / 'out', '2008_1')
    assert set(found[:2].flat) == {number}
    assert set(found[2:].flat) == {255}
    data['images'][0]['file_name'] = '../2008_1.jpg'
    path.write_text(json.dumps(data))
    arguments = ('pc59', tmp_path / 'voc', tmp_path / 'out', '--labels', path)
    assert 'image 1: a path must stay below its folder' in convert(*arguments, fails=True)
    del data['images'][0]['height']
    path.write_text(json.dumps(data))
    assert 'trainval_merged.json, images[0] must be an object' in convert(*arguments, fails=True)
    path.write_text('{')
    assert 'trainval_merged.json is no JSON' in convert(*arguments, fails=True)


@pytest.mark.parametrize(('name', 'background', 'count'), [('voc20', 255, 1), ('voc20b', 20, 2)])
def test_pascal_voc(tmp_path, name, background, count):
    for stem, first in (('a', 15), ('b', 0)):
        image(tmp_path / f'JPEGImages/{stem}.jpg')
        values = np.zeros((6, 8), np.uint8)
        values[0, :3] = [first, 255 if first else 0, 0]
        path = tmp_path / f'SegmentationClass/{stem}.png'
        path.parent.mkdir(exist_ok=True)
        picture = Image.fromarray(values, mode='P')
        picture.putpalette([7 * i % 256 for i in range(768)])
        picture.save(path)
    names = tmp_path / 'ImageSets/Segmentation/val.txt'
    names.parent.mkdir(parents=True)
    names.write_text('a\nb\n')
    assert f'{count} images' in convert(name, tmp_path, tmp_path / 'out')
    found = labels(tmp_path / 'out', 'a')
    assert found[0, :4].tolist() == [14, 255, background, background]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('ade847',), 'no images of ade847'),
        (('pc59',), '--labels must name'),
        (('pc59', '--labels', '{}/nothing'), 'labels.txt must name the classes'),
        (('voc20',), 'val.txt must list'),
    ],
)
def test_what_is_missing(tmp_path, arguments, message):
    name, *rest = (a.format(tmp_path) for a in arguments)
    assert message in convert(name, tmp_path, tmp_path / 'out', *rest, fails=True)


def test_sizes_that_differ(tmp_path):
    image(tmp_path / 'JPEGImages/a.jpg', 5, 5)
    path = tmp_path / 'SegmentationClass/a.png'
    path.parent.mkdir()
    Image.fromarray(np.ones((6, 8), np.uint8)).save(path)
    names = tmp_path / 'ImageSets/Segmentation/val.txt'
    names.parent.mkdir(parents=True)
    names.write_text('a')
    message = convert('voc20', tmp_path, tmp_path / 'out', fails=True)
    assert 'a.jpg is (5, 5), its label map (6, 8)' in message


def test_a_file_that_cannot_be_written(tmp_path, monkeypatch):
    """As on a full disk, of which OpenCV says nothing."""
    image(tmp_path / 'JPEGImages/a.jpg')
    (tmp_path / 'SegmentationClass').mkdir()
    Image.fromarray(np.ones((6, 8), np.uint8)).save(tmp_path / 'SegmentationClass/a.png')
    names = tmp_path / 'ImageSets/Segmentation/val.txt'
    names.parent.mkdir(parents=True)
    names.write_text('a')
    monkeypatch.setattr(cv2, 'imwrite', lambda *args: False)
    assert 'could not write' in convert('voc20', tmp_path, tmp_path / 'out', fails=True)
