"""Data of several sites: what is read, and what is refused with its file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

pytest.importorskip('mmseg')

from hyper_mm.registry import DATASETS  # noqa: E402

from ..helpers.fuzz import FAST, damaged, reads  # noqa: E402

pytestmark = pytest.mark.mmseg


@pytest.fixture
def root(tmp_path):
    """A site of four images with two classes."""
    for part in ('images', 'labels'):
        (tmp_path / 'a' / part).mkdir(parents=True)
    for i in range(4):
        write(tmp_path, i, np.eye(8, dtype=np.uint8))
    (tmp_path / 'splits.json').write_text('{"a": {"train": ["0", "1", "2"], "val": ["3"]}}')
    return tmp_path


def write(root, i, labels, image=None):
    image = np.zeros((8, 8, 3), np.uint8) if image is None else image
    Image.fromarray(image).save(root / 'a' / 'images' / f'{i}.png')
    Image.fromarray(labels).save(root / 'a' / 'labels' / f'{i}.png')


def build(root, load='LoadImageFromFile', **options):
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    pipeline = [dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
    cfg = dict(
        type='hyper_mm.SiteSegDataset',
        data_root=str(root),
        sites=['a'],
        img_suffix='.png',
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        metainfo=dict(classes=('background', 'cell'), palette=[[0] * 3, [1] * 3]),
        pipeline=[dict(type=load) if isinstance(load, str) else load, *pipeline],
    )
    return DATASETS.build({**cfg, **options})


def test_binary_masks_of_0_and_255(root):
    for i in range(3):
        write(root, i, 255 * np.eye(8, dtype=np.uint8))
    assert len(build(root)) == 4  # one file has a class: the others may hold background alone
    write(root, 3, 255 * np.eye(8, dtype=np.uint8))
    with pytest.raises(ValueError, match='labels hold 0 and 255 alone, and 255 means no label'):
        build(root)


@pytest.mark.parametrize('value', [2, 128, 254])
def test_labels_that_are_no_class(root, value):
    write(root, 2, value * np.eye(8, dtype=np.uint8))
    with pytest.raises(ValueError, match=rf'2\.png must hold .* 0 to 1 or 255, got \[{value}\]'):
        build(root)
    assert len(build(root, ignore_index=value)) == 4


def test_colored_label_maps(root):
    write(root, 0, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r'0\.png must hold one label a pixel'):
        build(root)


def test_reduced_labels(root):
    for i in range(4):
        write(root, i, 1 + np.eye(8, dtype=np.uint8))
    with pytest.raises(ValueError, match='0 to 1 or 255, got .2.'):
        build(root)
    data = build(root, reduce_zero_label=True)
    assert data[0]['data_samples'].gt_sem_seg.data.unique().tolist() == [0, 1]


def test_suffixes(root):
    with pytest.raises(ValueError, match=r"no images of img_suffix='.jpg', only files of \['.png'"):
        build(root, img_suffix='.jpg')
    with pytest.raises(FileNotFoundError, match=r"0\.bmp \(of seg_map_suffix='.bmp'\)"):
        build(root, seg_map_suffix='.bmp')
    (root / 'a' / 'labels' / '2.png').unlink()
    with pytest.raises(FileNotFoundError, match='1 of 4 label maps are missing, first .*2.png'):
        build(root)


def test_hidden_files_are_no_images(root):
    (root / 'a' / 'images' / '._0.png').write_bytes(b'Mac OS X')
    (root / 'a' / 'images' / '.ipynb_checkpoints').mkdir()
    (root / 'a' / 'images' / '.ipynb_checkpoints' / '0.png').touch()
    assert len(build(root)) == 4


def test_labels_are_not_needed_for_images_alone(root):
    data = build(root, data_prefix=dict(img_path='images'), pipeline=[])
    assert len(data) == 4 and 'seg_map_path' not in data.get_data_info(0)


def test_images_of_more_than_8_bits(root):
    image = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    write(root, 0, np.eye(8, dtype=np.uint8), image)
    with pytest.raises(ValueError, match='0.png holds uint16 numbers from 0 to 4095.*Window'):
        build(root)
    load = dict(type='hyper_mm.LoadImageWindow', low=0, high=4095)
    inputs = build(root, load)[0]['inputs']
    assert len(inputs.unique()) == 64 and (inputs.min(), inputs.max()) == (0, 255)


@pytest.mark.parametrize(
    'splits, message',
    [
        ('{', r'splits\.json is no JSON'),
        ('[]', r'splits\.json must hold an object'),
        ('{"b": {}}', "split 'train' of 'a' is not in splits.json"),
        ('{"a": ["train"]}', "split 'train' of 'a' is not in splits.json"),
        ('{"a": {"train": "0"}}', 'a, train must be a list of names'),
        ('{"a": {"train": ["0", 1]}}', 'a, train must be a list of names'),
        ('{"a": {"train": ["0", "9"]}}', r"missing \['9'\]"),
        ('{"a": {"train": ["0", "0"]}}', r"twice \['0'\]"),
        ('{"a": {"train": []}}', 'must list images'),
    ],
)
def test_bad_splits(root, splits, message):
    (root / 'splits.json').write_text(splits)
    with pytest.raises(ValueError, match=message):
        build(root, split='train')


def test_splits(root):
    assert len(build(root, split='train')) == 3 and len(build(root, split='val')) == 1
    (root / 'splits.json').unlink()
    with pytest.raises(FileNotFoundError, match='splits.json does not exist'):
        build(root, split='train')


@given(damaged(dict(a=dict(train=['0', '1'], val=['2', '3']))))
@FAST
def test_damaged_splits(root, data):
    (root / 'splits.json').write_bytes(data)
    found = reads(lambda: build(root, split='train'), 'splits.json')
    assert found is None or set(json.loads(data)['a']['train']) == {
        info['img_path'].rsplit('/', 1)[-1][:-4] for info in found.load_data_list()
    }


def test_a_split_cannot_name_two_images(root):
    """Of which one may be of another split."""
    for part in ('images', 'labels'):
        (root / 'a' / part / 'more').mkdir()
        (root / 'a' / part / '3.png').rename(root / 'a' / part / 'more' / '0.png')
    (root / 'splits.json').write_text('{"a": {"train": ["0", "1"], "val": ["2"]}}')
    with pytest.raises(ValueError, match=r"a, train must name one .*called \['0'\] in subfolders"):
        build(root, split='train')
    assert len(build(root, split='val')) == 1 and len(build(root)) == 4
