import cv2
import numpy as np
import pytest

pytest.importorskip('mmseg')

from mmseg.registry import DATASETS, TRANSFORMS  # noqa: E402

from hyper_mm.datasets import open_vocab  # noqa: E402

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='mmseg.Resize', scale=(16, 8), keep_ratio=True),
    dict(type='hyper_mm.LoadSegAnnotations16'),
    dict(type='mmseg.PackSegInputs'),
]
NAMES = ['ADE20KFull847Dataset', 'PascalContext459Dataset', 'PascalContext59Dataset']
NAMES += ['PascalVOC20Dataset', 'PascalVOC20bDataset']


@pytest.fixture
def folder(tmp_path):
    def make(labels, suffix):
        for kind in ('images', 'annotations'):
            (tmp_path / kind).mkdir()
        cv2.imwrite(str(tmp_path / 'images/a.jpg'), np.zeros((8, 16, 3), np.uint8))
        cv2.imwrite(str(tmp_path / f'annotations/a{suffix}'), labels)
        return dict(
            data_root=str(tmp_path),
            data_prefix=dict(img_path='images', seg_map_path='annotations'),
        )

    return make


@pytest.mark.mmseg
@pytest.mark.parametrize('name', NAMES)
def test_labels_beyond_8_bits(folder, name):
    kind = getattr(open_vocab, name)
    count = len(kind.METAINFO['classes'])
    wide = count > 255
    labels = np.resize(np.arange(count), (8, 16)).astype(np.uint16 if wide else np.uint8)
    labels[0] = count - 1
    where = folder(labels, '.tif' if wide else '.png')
    dataset = DATASETS.build(dict(type=f'hyper_mm.{name}', pipeline=PIPELINE, **where))
    ignored = {847: 65535, 459: 459}.get(count, 255)
    assert dataset.ignore_index == ignored
    assert len(dataset.metainfo['palette']) == count
    sample = dataset[0]['data_samples'].gt_sem_seg.data[0]
    assert sample.tolist() == labels.tolist()


@pytest.mark.mmseg
def test_some_classes(folder):
    labels = np.full((8, 16), 65535, np.uint16)
    labels[0, :4] = [0, 255, 300, 846]
    all_names = open_vocab.ADE20KFull847Dataset.METAINFO['classes']
    kept = [all_names[i] for i in (300, 255)]
    dataset = DATASETS.build(
        dict(
            type='hyper_mm.ADE20KFull847Dataset',
            metainfo=dict(classes=kept),
            pipeline=PIPELINE,
            **folder(labels, '.tif'),
        )
    )
    found = dataset[0]['data_samples'].gt_sem_seg.data[0]
    assert found[0, :5].tolist() == [65535, 1, 0, 65535, 65535]


@pytest.mark.mmseg
def test_too_many_classes_for_mmseg_s_loader(folder):
    where = folder(np.zeros((8, 16), np.uint16), '.tif')
    for name in NAMES[:2]:
        with pytest.raises(ValueError, match='do not fit .*hyper_mm.LoadSegAnnotations16'):
            pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
            DATASETS.build(dict(type=f'hyper_mm.{name}', pipeline=pipeline, **where))


@pytest.mark.mmseg
def test_a_vocabulary_of_your_own(folder):
    labels = np.zeros((8, 16), np.uint8)
    labels[0, :3] = [1, 2, 255]
    options = dict(
        type='hyper_mm.VocabularySegDataset',
        vocabulary=['wall, partition', 'sky', 'cat'],
        pipeline=PIPELINE,
        **folder(labels, '.png'),
    )
    every, some = (DATASETS.build(dict(options, **o)) for o in ({}, dict(classes=['cat', 'wall'])))
    assert every.metainfo['classes'] == ['wall', 'sky', 'cat']
    assert every[0]['data_samples'].gt_sem_seg.data[0, 0, :4].tolist() == [1, 2, 255, 0]
    assert some.metainfo['classes'] == ['cat', 'wall']
    assert some.metainfo['palette'] == [every.metainfo['palette'][i] for i in (2, 0)]
    assert some[0]['data_samples'].gt_sem_seg.data[0, 0, :4].tolist() == [255, 0, 255, 1]
    with pytest.raises(ValueError, match=r"among those of the vocabulary, got \['dog'\]"):
        DATASETS.build(dict(options, classes=['dog']))


@pytest.mark.mmseg
def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='docs/open_vocabulary.md'):
        DATASETS.build(
            dict(
                type='hyper_mm.PascalVOC20Dataset',
                data_root=str(tmp_path),
                data_prefix=dict(img_path='images', seg_map_path='annotations'),
            )
        )


@pytest.mark.mmseg
def test_what_is_no_label_map(tmp_path):
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))
    load = TRANSFORMS.build(dict(type='hyper_mm.LoadSegAnnotations16'))
    with pytest.raises(ValueError, match=r'a.png must be a label map .* got \(4, 4, 3\)'):
        load(dict(seg_map_path=str(path), seg_fields=[]))
    with pytest.raises(ValueError, match='reduce_zero_label=False'):
        load(dict(seg_map_path=str(path), seg_fields=[], reduce_zero_label=True))
