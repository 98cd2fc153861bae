"""Folders of images as they lie on people's disks."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from hyper_mm.datasets.image_folders import (
    EXTENSIONS,
    class_folders,
    images_below,
    read_names,
    wordnet_ids,
)


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_hidden_files_and_folders_are_no_data(tmp_path):
    put(tmp_path, 'cat/1.png', 'cat/._1.png', 'cat/Thumbs.db', '.ipynb_checkpoints/1.png')
    put(tmp_path, '__MACOSX/cat/1.png', 'cat/.ipynb_checkpoints/1-checkpoint.png')
    assert [sub.name for sub in class_folders(tmp_path)] == ['cat']
    others = Counter()
    assert images_below(tmp_path / 'cat', others) == [tmp_path / 'cat' / '1.png'] and not others


def test_all_suffixes_and_folders_within_classes(tmp_path):
    names = [f'batch{i}/x{suffix}' for i, suffix in enumerate(EXTENSIONS)]
    put(tmp_path, *names, 'y.JPEG', 'notes.txt')
    others = Counter()
    found = images_below(tmp_path, others)
    assert {str(file.relative_to(tmp_path)) for file in found} == {*names, 'y.JPEG'}
    assert others == {'.txt': 1}


def test_mmcv_reads_all_suffixes(tmp_path):
    mmcv = pytest.importorskip('mmcv')
    image = pytest.importorskip('PIL.Image').new('RGB', (5, 4), (10, 200, 30))
    for suffix in EXTENSIONS:
        file = tmp_path / f'a{suffix}'
        (image.convert('L') if suffix == '.pgm' else image).save(file)
        assert mmcv.imread(file).shape == (4, 5, 3)


def test_a_folder_without_images(tmp_path):
    put(tmp_path, 'cat/1.gif', 'cat/a.npy')
    with pytest.raises(ValueError, match=r"cat has no images of .*only files of suffix \['.gif'"):
        images_below(tmp_path / 'cat')
    with pytest.raises(FileNotFoundError, match='no folder of images'):
        class_folders(tmp_path / 'none')


def test_names_beside_the_folders_or_above(tmp_path):
    put(tmp_path, 'train/n1/a.png')
    assert read_names(tmp_path / 'train') is None
    names = dict(n1='crane, bird', n2='crane, machine', n3='tench, Tinca')
    (tmp_path / 'classes.json').write_text(json.dumps(names))
    assert read_names(tmp_path / 'train') == dict(n1='crane, bird', n2='crane, machine', n3='tench')
    (tmp_path / 'train' / 'classnames.txt').write_text('n1 red crane\n\nn3 tench\n')
    assert read_names(tmp_path / 'train') == dict(n1='red crane', n3='tench')


@pytest.mark.parametrize(
    'name, text, message',
    [
        ('classes.json', '["a"]', r'classes\.json must hold an object'),
        ('classes.json', '{"n1": 3}', r"classes\.json: 'n1' must have a name, got 3"),
        ('classnames.txt', 'n1 a\nn2\n', r'classnames\.txt, line 2 must name a folder'),
        ('classnames.txt', 'n1 a\nn1 b\n', r'classnames\.txt, line 2 must name a folder, once'),
    ],
)
def test_bad_names(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_names(tmp_path)


def test_wordnet_ids():
    assert wordnet_ids(['n01440764', 'tench', 'n1', 'n014407640']) == ['n01440764']
