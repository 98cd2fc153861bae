"""CoOp's splits, shots and halves, on generated folders and split files."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given

pytestmark = pytest.mark.mmpretrain
pytest.importorskip('mmpretrain')

from mmengine.logging import MMLogger  # noqa: E402

from hyper_mm.datasets.few_shot import SETS, CoOpFewShotDataset, read_split  # noqa: E402

from ..helpers.fuzz import FAST, damaged, reads  # noqa: E402

NAMES = ['dog', 'ant', 'cat', 'bee', 'elk']


def items(split: str, size: int) -> list[list]:
    """Items of five classes in turn; the last class has two images only."""
    found = [[f'{n}/{split}{i}.jpg', y, n] for i in range(size) for y, n in enumerate(NAMES)]
    return [item for item in found if item[1] < 4 or item[0].endswith(('0.jpg', '1.jpg'))]


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / SETS['caltech101'].images).mkdir(parents=True)
    content = dict(train=items('train', 8), val=items('val', 6), test=items('test', 3))
    path = tmp_path / 'caltech-101' / SETS['caltech101'].split_json
    path.write_text(json.dumps(content))
    return tmp_path


def make(root: Path, name: str = 'caltech101', **options) -> CoOpFewShotDataset:
    return CoOpFewShotDataset(name, data_root=str(root), **options)


def found(dataset) -> list[tuple[str, int]]:
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [('/'.join(Path(i['img_path']).parts[-2:]), i['gt_label']) for i in infos]


@pytest.mark.parametrize('seed', [1, 2])
def test_shots_are_those_of_the_release(root, seed):
    random.seed(seed)  # the official code: one global generator, training first, label by label
    expected = {}
    for split, size, shots in (('train', 8, 5), ('val', 6, 4)):
        drawn = []
        for label in range(5):
            members = [(path, y) for path, y, _ in items(split, size) if y == label]
            drawn += random.sample(members, shots) if len(members) >= shots else members
        expected[split] = drawn
    for split, drawn in expected.items():
        assert found(make(root, split=split, shots=5, seed=seed)) == drawn


def test_without_shots_and_in_tests_all_images(root):
    assert found(make(root)) == [(path, y) for path, y, _ in items('train', 8)]
    assert len(make(root, split='test', shots=1)) == len(items('test', 3))
    assert make(root).metainfo['classes'] == tuple(NAMES)


def test_halves(root):
    base, new = (make(root, subsample=s, split='test') for s in ('base', 'new'))
    assert base.metainfo['classes'] == ('dog', 'ant', 'cat')
    assert new.metainfo['classes'] == ('bee', 'elk')
    assert {y for _, y in found(base)} == {0, 1, 2}
    assert all(path.startswith(('bee', 'elk')[y]) for path, y in found(new))


def test_halves_are_taken_after_the_draw(root):
    drawn = found(make(root, shots=2))
    assert found(make(root, shots=2, subsample='base')) == [x for x in drawn if x[1] < 3]
    assert found(make(root, shots=2, subsample='new')) == [(p, y - 3) for p, y in drawn if y > 2]


def test_fewer_images_than_shots(root):
    assert Counter(y for _, y in found(make(root, shots=4)))[4] == 2
    with pytest.raises(ValueError, match=r"fewer than 4 images: \['elk'\]"):
        make(root, shots=4, allow_fewer=False)


def folders(root: Path, names: list, count: int) -> None:
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f'{i}.png').touch()


def test_folders(tmp_path):
    folders(tmp_path, NAMES, 10)
    parts = [found(make(tmp_path, 'folders', split=s)) for s in ('train', 'val', 'test')]
    assert [len(part) for part in parts] == [25, 10, 15]
    assert len(set().union(*parts)) == 50
    assert make(tmp_path, 'folders').metainfo['classes'] == tuple(sorted(NAMES))
    assert found(make(tmp_path, 'folders', split='val', seed=5)) == parts[1]
    assert len(make(tmp_path, 'folders', shots=2)) == 10


def test_folders_as_they_are(tmp_path):
    """Hidden files, other suffixes and images in folders below: as people have them."""
    folders(tmp_path, ['cat', 'dog', '.ipynb_checkpoints', '__MACOSX', 'bird/batch1'], 8)
    (tmp_path / 'owl').mkdir()
    for i in range(8):
        (tmp_path / 'owl' / f'{i}.tif').touch()
        (tmp_path / 'dog' / f'{i}.png').rename(tmp_path / 'dog' / f'{i}.WEBP')
        (tmp_path / 'cat' / f'._{i}.png').write_bytes(b'Mac OS X')
    parts = [make(tmp_path, 'folders', split=s) for s in ('train', 'val', 'test')]
    assert parts[0].metainfo['classes'] == ('bird', 'cat', 'dog', 'owl')
    paths = [path for part in parts for path, _ in found(part)]
    assert len(paths) == 32 and not any('/.' in path for path in paths)
    assert all(Path(i['img_path']).is_file() for p in parts for i in p.load_data_list())
    (tmp_path / 'fox').mkdir()
    (tmp_path / 'fox' / 'a.gif').touch()
    with pytest.raises(ValueError, match=r'fox has no images .*\.gif'):
        make(tmp_path, 'folders')


def test_splits_are_no_classes(tmp_path):
    folders(tmp_path, ['train/cat', 'train/dog', 'val/cat', 'val/dog'], 4)
    with pytest.raises(ValueError, match=r"holds splits, \['train', 'val'\]: data_root"):
        make(tmp_path, 'folders')
    assert make(tmp_path / 'train', 'folders').metainfo['classes'] == ('cat', 'dog')


def test_wordnet_ids_get_names(tmp_path, monkeypatch):
    ids = ['n01440764', 'n01443537']
    folders(tmp_path / 'train', ids, 4)
    said = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'warning', said.append)
    assert make(tmp_path / 'train', 'folders').metainfo['classes'] == tuple(ids)
    assert len(said) == 1 and 'WordNet ids' in said[0] and 'classes.json' in said[0]
    (tmp_path / 'classes.json').write_text('{"n01440764": "tench, Tinca", "n01443537": "goldfish"}')
    assert make(tmp_path / 'train', 'folders').metainfo['classes'] == ('tench', 'goldfish')
    assert len(said) == 1
    (tmp_path / 'classes.json').write_text('{"n01440764": "tench, Tinca"}')
    with pytest.raises(ValueError, match='none for the folder .*n01443537'):
        make(tmp_path / 'train', 'folders')


def test_one_class(tmp_path):
    folders(tmp_path, ['cat'], 4)
    assert len(make(tmp_path, 'folders', subsample='base')) == 2
    with pytest.raises(ValueError, match='no classes'):
        make(tmp_path, 'folders', subsample='new')
    folders(tmp_path, ['dog'], 1)
    with pytest.raises(ValueError, match="'dog'.*too few"):
        make(tmp_path, 'folders')


def test_imagenet(tmp_path):
    for part, count in (('train', 5), ('val', 3)):
        folders(tmp_path / 'imagenet/images' / part, ['n1', 'n2'], count)
    (tmp_path / 'imagenet/classnames.txt').write_text('n0 crane\nn1 polar bear\nn2 cat\n')
    train = make(tmp_path, 'imagenet', shots=2)
    assert train.metainfo['classes'] == ('polar bear', 'cat') and len(train) == 4
    validation, test = (make(tmp_path, 'imagenet', shots=2, split=s) for s in ('val', 'test'))
    assert found(validation) == found(test) and len(test) == 6


def test_variants_of_imagenet(tmp_path):
    names = 'n1 polar bear\nn2 cat\nn3 sea\n'
    for name, subs in (('imagenetv2', ['0', '1', '2']), ('imagenet_r', ['n1', 'n3'])):
        folder = tmp_path / SETS[name].images
        folders(folder, subs, 2)
        (folder.parent / 'classnames.txt').write_text(names)
    second = make(tmp_path, 'imagenetv2', split='test')
    assert second.metainfo['classes'] == ('polar bear', 'cat', 'sea')
    renditions = make(tmp_path, 'imagenet_r', split='test')
    assert renditions.metainfo['classes'] == ('polar bear', 'sea')
    assert {y for _, y in found(renditions)} == {0, 1}
    with pytest.raises(ValueError, match='split'):
        make(tmp_path, 'imagenet_r')


def test_aircraft(tmp_path):
    root = tmp_path / 'fgvc_aircraft'
    (root / 'images').mkdir(parents=True)
    (root / 'variants.txt').write_text('707-320\nAn-12 B\n')
    for split, line in (('train', '01 An-12 B'), ('val', '02 707-320'), ('test', '03 707-320')):
        (root / f'images_variant_{split}.txt').write_text(f'{line}\n')
    assert found(make(tmp_path, 'fgvc_aircraft')) == [('images/01.jpg', 1)]
    full = make(tmp_path, 'fgvc_aircraft', split='test')
    assert full.metainfo['classes'] == ('707-320', 'An-12 B')


def test_another_split_file(root, tmp_path):
    path = tmp_path / 'mine.json'
    path.write_text(json.dumps(dict(train=items('train', 1), val=[], test=items('test', 1))))
    assert len(make(root, split_json=str(path))) == 5


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(name='mnist'), 'name'),
        (dict(split='dev'), 'split'),
        (dict(subsample='old'), 'subsample'),
        (dict(shots=0), 'shots'),
    ],
)
def test_bad_arguments(root, options, message):
    with pytest.raises(ValueError, match=message):
        make(root, **options)


def test_bad_files(root):
    with pytest.raises(FileNotFoundError, match='no images of dtd'):
        make(root, 'dtd')
    path = root / 'caltech-101' / SETS['caltech101'].split_json
    for content, message in (
        ({'train': []}, 'must hold an object'),
        (dict(train=[['a.jpg', 'cat']], val=[], test=[]), 'must hold .path, label, name'),
        (dict(train=[['a', 0, 'cat'], ['b', 0, 'dog']], val=[], test=[]), 'two names'),
        (dict(train=[['a', -1, 'cat']], val=[], test=[]), r'json, train.0. must hold .*-1'),
        (dict(train=[['a', True, 'cat']], val=[], test=[]), 'must hold'),
        (dict(train=[], val=[['../../a', 0, 'cat']], test=[]), r'val.0.: a path must stay below'),
        (dict(train=[], val=[], test=[['/etc/passwd', 0, 'cat']]), r'test.0.: a path must stay'),
        (dict(train=[['a', 0, '']], val=[], test=[]), 'must have the name'),
        (dict(train=[], val=[], test=[['a', 0, 'cat']]), "split='train' of caltech101 has no"),
        (dict(train={}, val=[], test=[]), 'train must be a list'),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            make(root)
    path.unlink()
    with pytest.raises(FileNotFoundError, match='no split file'):
        make(root)


@given(damaged(dict(train=items('train', 2), val=[], test=items('test', 1))))
@FAST
def test_damaged_split_files(root, data):
    path = root / 'caltech-101' / SETS['caltech101'].split_json
    path.write_bytes(data)
    parts = reads(lambda: read_split(path), path.name)
    for path, label, name in (item for split in (parts or {}).values() for item in split):
        assert label >= 0 and name and not Path(path).is_absolute() and '..' not in path


def test_images_in_two_splits_are_warned_of(root, monkeypatch):
    said = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning', said.append)
    path = root / 'caltech-101' / SETS['caltech101'].split_json
    same = items('train', 1)
    path.write_text(json.dumps(dict(train=same, val=[], test=same)))
    assert len(make(root)) == 5
    assert len(said) == 1 and '5 images are both in train and in test' in said[0]


def test_metainfo(root, tmp_path):
    meta = make(root, subsample='base').metainfo
    assert (meta['template'], meta['subsample']) == ('a photo of a {}.', 'base')
    folders(tmp_path / 'folders', ['cat', 'dog'], 4)
    assert make(tmp_path / 'folders', 'folders').metainfo['template'] == 'a photo of a {}.'
