"""ImageNet under the superclasses of BREEDS."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.mmpretrain
pytest.importorskip('mmpretrain')

from hyper_mm.datasets.breeds import BreedsDataset, ancestors_at  # noqa: E402

from ..helpers.fuzz import FAST, changed, reads  # noqa: E402

EDGES = """root animal
root thing
animal dog
animal cat
thing car
dog n1
dog n2
cat n3
car n4
thing n5
"""
NAMES = (
    'animal\tanimal, beast\nthing\tanimal\ndog\tdog, domestic dog\ncat\tcat\ncar\tcar\nn1\tpug\n'
)


@pytest.fixture
def root(tmp_path) -> Path:
    """Five fine classes with four images each, one of them outside the hierarchy."""
    folder = tmp_path / 'hierarchy'
    folder.mkdir()
    (folder / 'class_hierarchy.txt').write_text(EDGES)
    (folder / 'node_names.txt').write_text(NAMES)
    for wnid in ('n1', 'n2', 'n3', 'n4', 'n9'):
        (tmp_path / 'images' / wnid).mkdir(parents=True)
        for i in range(4):
            (tmp_path / 'images' / wnid / f'{i}.JPEG').touch()
        (tmp_path / 'images' / wnid / 'notes.txt').touch()
    return tmp_path


def make(root: Path, **options) -> BreedsDataset:
    options = dict(hierarchy_root='hierarchy', depth=2, min_images=4) | options
    return BreedsDataset(data_root=str(root), **options)


def paths(dataset: BreedsDataset) -> list[str]:
    return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]


def test_ancestors(root):
    assert ancestors_at(root / 'hierarchy', 2) == dict(
        dog='dog', cat='cat', car='car', n1='dog', n2='dog', n3='cat', n4='car', n5='n5'
    )
    first = ancestors_at(root / 'hierarchy', 1)
    assert (first['n1'], first['animal'], first['n5']) == ('animal', 'animal', 'thing')
    assert 'root' not in first


def test_the_nearest_of_several_parents_counts(tmp_path):
    # x lies below a (at depth 1) and below c (at depth 2); y below two of depth 1
    edges = 'r b\nr a\nb c\nc x\na x\nb y\na y\nstray other\n'
    (tmp_path / 'class_hierarchy.txt').write_text(edges)
    found = ancestors_at(tmp_path, 1)
    assert (found['x'], found['y'], found['c']) == ('a', 'a', 'b')
    assert 'other' not in found


def test_labels_are_superclasses(root):
    dataset = make(root, split='all')
    assert dataset.metainfo['classes'] == ('car', 'cat', 'dog')
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert Counter(info['gt_label'] for info in infos) == {0: 4, 1: 4, 2: 8}
    assert {info['gt_label'] for info in infos if info['wnid'] in ('n1', 'n2')} == {2}


def test_superclasses_with_few_images_are_left_out(root):
    dataset = make(root, split='all', depth=1)
    assert dataset.metainfo['superclasses'] == ('animal', 'thing')
    assert dataset.metainfo['classes'] == ('animal (animal)', 'animal (thing)')
    for path in (root / 'images' / 'n3').glob('[12]*'):
        path.unlink()
    assert make(root, split='all').metainfo['classes'] == ('car', 'dog')


def test_classes_that_are_expected(root):
    assert len(make(root, split='all', classes=['car', 'cat', 'dog'])) == 16
    with pytest.raises(ValueError, match=r"classes must be those that are found, \('car', 'cat'"):
        make(root, classes=['cat', 'dog'])


def test_split_is_a_partition_by_the_seed(root):
    train, val = (make(root, split=split, val_fraction=0.25) for split in ('train', 'val'))
    assert train.metainfo['classes'] == val.metainfo['classes']
    assert not set(paths(train)) & set(paths(val))
    assert sorted(paths(train) + paths(val)) == sorted(paths(make(root, split='all')))
    assert Counter(int(label) for label in val.get_gt_labels()) == {0: 1, 1: 1, 2: 2}
    assert paths(make(root, split='val', val_fraction=0.25)) == paths(val)
    others = [paths(make(root, split='val', val_fraction=0.25, seed=seed)) for seed in (1, 2, 3)]
    assert any(other != paths(val) for other in others)
    assert len(make(root, split='val', val_fraction=0.01)) == 3, 'one of each at least'
    assert len(make(root, split='train', val_fraction=0.99)) == 3


def test_gzipped_files(root):
    expected = paths(make(root))
    for name in ('class_hierarchy.txt', 'node_names.txt'):
        path = root / 'hierarchy' / name
        (root / 'hierarchy' / f'{name}.gz').write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert paths(make(root)) == expected


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(depth=0), r'depth must be at least 1 .* got 0'),
        (dict(min_images=1), 'min_images must be at least 2.* got 1'),
        (dict(split='test'), r"split must be one of .*'test'"),
        (dict(val_fraction=1.0), r'val_fraction must be in \(0, 1\), got 1.0'),
        (dict(depth=9), 'depth=9 has 0 superclasses .* choose another depth'),
        (dict(min_images=6), 'depth=2 has 1 superclasses .*min_images=6 of the 20 images'),
    ],
)
def test_bad_arguments(root, options, message):
    with pytest.raises(ValueError, match=message):
        make(root, **options)


def test_missing_and_broken_files(root):
    with pytest.raises(FileNotFoundError, match='no class_hierarchy.txt or class_h'):
        make(root, hierarchy_root='nowhere')
    with pytest.raises(FileNotFoundError, match='no folder of images at .*pictures'):
        make(root, data_prefix='pictures')
    path = root / 'hierarchy' / 'class_hierarchy.txt'
    path.write_text('a b\na b c\n')
    with pytest.raises(ValueError, match='line 2: expected a parent and a child'):
        make(root)
    path.write_text('a b\nb a\n')
    with pytest.raises(ValueError, match='no node without a parent'):
        make(root)

    (root / 'hierarchy' / 'node_names.txt').write_text('a\tanimal\nb thing\n')
    path.write_text(EDGES)
    with pytest.raises(ValueError, match=r'node_names\.txt, line 2: expected id, tab and name'):
        make(root)
    (root / 'hierarchy' / 'node_names.txt').write_bytes('a\té'.encode('latin-1'))
    with pytest.raises(ValueError, match=r'node_names\.txt, line 1 must be UTF-8'):
        make(root)


@given(data=st.data(), gzipped=st.booleans())
@FAST
def test_damaged_hierarchies(root, data, gzipped):
    folder = root / 'hierarchy'
    for name, text in (('class_hierarchy.txt', EDGES), ('node_names.txt', NAMES)):
        content = gzip.compress(text.encode()) if gzipped else text.encode()
        for path in folder.glob(f'{name}*'):
            path.unlink()
        (folder / f'{name}{".gz" * gzipped}').write_bytes(data.draw(changed(content)))
    names = ('class_hierarchy.txt', 'node_names.txt', 'superclasses')
    found = reads(lambda: make(root), *names)
    assert found is None or len(found.metainfo['classes']) >= 2


@pytest.mark.parametrize('variant', ['modified', 'wordnet'])
def test_reads_real_data(data_dir, variant):
    folder = data_dir / 'imagenet_sample'
    if not folder.is_dir():
        pytest.skip(f'no {folder}')
    # wordnet's own hierarchy has more levels between its root and an animal
    depth = dict(modified=2, wordnet=6)[variant]
    options = dict(data_root=str(folder), hierarchy_root=f'hierarchy/{variant}', depth=depth)
    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'mmpretrain.PackInputs'}]
    train, val = (
        BreedsDataset(split=split, pipeline=pipeline, **options) for split in ('train', 'val')
    )
    classes = train.metainfo['classes']
    assert 'animal' in classes and len(set(classes)) == len(classes) == len(
        train.metainfo['superclasses']
    )
    sizes = Counter(train.get_gt_labels().tolist()) + Counter(val.get_gt_labels().tolist())
    assert sorted(sizes) == list(range(len(classes))) and min(sizes.values()) >= 20
    label = {val.get_data_info(i)['wnid']: int(val.get_gt_labels()[i]) for i in range(len(val))}
    assert all(
        classes[label[wnid]] == 'animal' for wnid in label if 'n02085000' < wnid < 'n02114000'
    ), 'dogs are animals'
    sample = val[0]
    assert sample['inputs'].ndim == 3
    assert int(sample['data_samples'].gt_label) == val.get_gt_labels()[0]
