"""CoOp's splits, shots and halves, on generated folders and split files."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.mmpretrain
pytest.importorskip('mmpretrain')

from hyper_mm.datasets.few_shot import SETS, CoOpFewShotDataset  # noqa: E402

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
    random.seed(seed)  # the release: one global generator, training first, label by label
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
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            make(root)
    path.unlink()
    with pytest.raises(FileNotFoundError, match='no split file'):
        make(root)


def test_metainfo(root, tmp_path):
    meta = make(root, subsample='base').metainfo
    assert (meta['template'], meta['subsample']) == ('a photo of a {}.', 'base')
    folders(tmp_path / 'folders', ['cat', 'dog'], 4)
    assert make(tmp_path / 'folders', 'folders').metainfo['template'] == 'a photo of a {}.'
