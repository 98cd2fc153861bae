"""Episodes and data of several sites."""

import json

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from PIL import Image

from hyper_mm.registry import DATASETS

pytest.importorskip('mmseg')
pytestmark = pytest.mark.mmseg


SITES = ('a', 'b')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Two sites of six images, in which class k is one square of k; 4 classes and background."""
    folder, draw = tmp_path_factory.mktemp('sites'), np.random.default_rng(0)
    for site in SITES:
        for part in ('images', 'labels'):
            (folder / site / part).mkdir(parents=True)
        for i in range(6):
            labels = np.zeros((12, 16), np.uint8)
            labels[:2] = 255
            for k in (1 + i % 4, 1 + (i + 1) % 4):
                labels[4:8, 4 * k - 4 : 4 * k] = k
            Image.fromarray(labels).save(folder / site / 'labels' / f'{i}.png')
            image = draw.integers(0, 255, (12, 16, 3), np.uint8)
            Image.fromarray(image).save(folder / site / 'images' / f'{i}.jpg')
    splits = {site: dict(train=['0', '1', '2', '3'], val=['4', '5']) for site in SITES}
    (folder / 'splits.json').write_text(json.dumps(splits))
    return folder


def sites(root, sites=SITES, **kwargs):
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    names = ('background', 'one', 'two', 'three', 'four')
    return dict(
        type='hyper_mm.SiteSegDataset',
        data_root=str(root),
        sites=sites,
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        metainfo=dict(classes=names, palette=[[k] * 3 for k in range(5)]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs', meta_keys=('img_path', 'ori_shape', 'img_shape')),
        ],
        **kwargs,
    )


def episodes(root, **kwargs):
    dataset = kwargs.pop('dataset', None) or sites(root)
    options = dict(background=0, num_episodes=20, **kwargs)
    return DATASETS.build(dict(type='hyper_mm.EpisodeDataset', dataset=dataset, **options))


def test_sites_and_splits(root):
    found = DATASETS.build(sites(root))
    assert [found.get_data_info(i)['domain'] for i in range(12)] == ['a'] * 6 + ['b'] * 6
    part = DATASETS.build(sites(root, ['b'], split='val'))
    assert len(part) == 2 and part[0]['data_samples'].gt_sem_seg.data.max() == 255
    with pytest.raises(ValueError, match='sites'):
        DATASETS.build(sites(root, 'a'))
    with pytest.raises(ValueError, match='split'):
        DATASETS.build(sites(root, split='test'))
    with pytest.raises(FileNotFoundError, match='data_root'):
        DATASETS.build(sites(root, ['c']))


def test_segmentation_episodes(root):
    data = episodes(root, n_way=2, k_shot=1, n_query=2)
    plain = {x['data_samples'].img_path: x['data_samples'].gt_sem_seg.data for x in data.dataset}
    assert len(data) == 20 and data.queries == 4 and data.metainfo == data.dataset.metainfo
    for index in range(5):
        item = data[index]
        parts = item['support'] + item['query']
        assert len(item['support']) == 2 and len(item['query']) == 4
        assert len({x['data_samples'].img_path for x in parts}) == 6
        for x in item['support']:
            sample = x['data_samples']
            old, classes = plain[sample.img_path], sample.episode_classes
            expected = sum((old == k) * w for w, k in enumerate(classes, 1))
            expected[old == 255] = 255
            assert torch.equal(sample.gt_sem_seg.data, expected)
        shown = [set(x['data_samples'].gt_sem_seg.data.unique().tolist()) for x in item['support']]
        assert {1, 2} <= set.union(*shown)


def test_episodes_are_a_function_of_seed_and_number(root):
    def paths(data, index):
        item = data[index]
        return [x['data_samples'].img_path for x in item['support'] + item['query']]

    data, same = episodes(root, n_query=2), episodes(root, n_query=2)
    assert [paths(data, i) for i in range(9)] == [paths(same, i) for i in range(9)]
    same.seed = 1
    assert [paths(data, i) for i in range(9)] != [paths(same, i) for i in range(9)]
    short = episodes(root, n_query=2)
    short.num_episodes = 2
    assert len([*short]) == 2  # a loop over it ends
    for index in (2, -1):
        with pytest.raises(IndexError, match=f'index must be 0 to 1, got {index}'):
            short[index]


def test_folds_split_the_classes(root):
    every = set()
    for fold in range(2):
        novel = episodes(root, fold=fold, num_folds=2, novel=True)
        base = episodes(root, fold=fold, num_folds=2)
        assert not set(novel.groups) & set(base.groups)
        assert set(novel.groups) | set(base.groups) == {1, 2, 3, 4}
        every |= set(novel.groups)
    assert every == {1, 2, 3, 4}
    with pytest.raises(ValueError, match='n_way'):
        episodes(root, min_pixels=17)


def three_classes(folder, values, dtype=np.uint8, suffix='.png'):
    """Twelve images of one label each, in the values of a label map."""
    for part in ('i', 'a'):
        (folder / part).mkdir()
    for k in range(12):
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / 'i' / f'{k}.jpg')
        labels = np.full((16, 16), values[k % len(values)], dtype)
        labels[:2] = 255 if dtype == np.uint8 else 65535
        Image.fromarray(labels).save(folder / 'a' / f'{k}{suffix}')


@pytest.mark.parametrize('reduce', [True, False])
@pytest.mark.parametrize('classes', [('wall', 'sky', 'tree'), ('wall', 'tree'), ('tree', 'sky')])
@pytest.mark.parametrize('loader', ['LoadAnnotations', 'hyper_mm.LoadSegAnnotations16'])
def test_ways_are_the_classes_that_the_pipeline_loads(tmp_path, reduce, classes, loader):
    """mmseg reduces label 0 first and then maps subsets of classes."""
    from mmseg.datasets import BaseSegDataset

    class Three(BaseSegDataset):
        METAINFO = dict(classes=('wall', 'sky', 'tree'), palette=[[k] * 3 for k in range(3)])

    sites(tmp_path)
    three_classes(tmp_path, [k + reduce for k in range(3)])
    dataset = Three(
        data_root=str(tmp_path),
        data_prefix=dict(img_path='i', seg_map_path='a'),
        reduce_zero_label=reduce,
        metainfo=dict(classes=classes),
        pipeline=[dict(type=t) for t in ('LoadImageFromFile', loader, 'PackSegInputs')],
    )
    if reduce and loader != 'LoadAnnotations':
        with pytest.raises(ValueError, match='reduce_zero_label=False'):
            DATASETS.build(dict(type='hyper_mm.EpisodeDataset', dataset=dataset))
        return
    data = DATASETS.build(dict(type='hyper_mm.EpisodeDataset', dataset=dataset))
    assert sorted(data.groups) == [*range(len(classes))]
    seen = set()
    for index in range(20):
        for item in (part[0] for part in data[index].values()):
            sample = item['data_samples']
            name = classes[sample.episode_classes[0]]
            value = np.asarray(Image.open(sample.seg_map_path))[8, 8]
            assert value - reduce == ('wall', 'sky', 'tree').index(name)
            assert sample.gt_sem_seg.data.unique().tolist() == [1, 255]
            seen.add(name)
    assert seen == {*classes}


def test_episodes_of_16_bit_label_maps(tmp_path):
    """255 is a class there, and another number the ignored label."""
    sites(tmp_path)
    three_classes(tmp_path, [7, 255, 600], np.uint16, '.tif')
    data = DATASETS.build(
        dict(
            type='hyper_mm.EpisodeDataset',
            dataset=dict(
                type='hyper_mm.ADE20KFull847Dataset',
                data_root=str(tmp_path),
                data_prefix=dict(img_path='i', seg_map_path='a'),
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='hyper_mm.LoadSegAnnotations16'),
                    dict(type='PackSegInputs'),
                ],
            ),
        )
    )
    assert sorted(data.groups) == [7, 255, 600] and data.ignore_index == 65535
    sample = data[0]['support'][0]['data_samples']
    assert sample.gt_sem_seg.data.unique().tolist() == [1, 65535]


def test_the_loader_is_found_within_wrappers(tmp_path):
    sites(tmp_path)
    three_classes(tmp_path, [1, 2, 3])
    one = dict(
        type='hyper_mm.PartScenesDataset',
        data_root=str(tmp_path),
        data_prefix=dict(img_path='i', seg_map_path='a'),
        pipeline=[dict(type=t) for t in ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs')],
    )
    data = DATASETS.build(
        dict(
            type='hyper_mm.EpisodeDataset',
            dataset=dict(type='ConcatDataset', datasets=[one, one]),
        )
    )
    assert sorted(data.groups) == [0, 1, 2] and len(data.groups[0]) == 8


def test_domain_episodes(root):
    data = episodes(root, by='domain', k_shot=3, n_query=2)
    assert {data[i]['query'][0]['data_samples'].domain for i in range(20)} == set(SITES)
    for i in range(5):
        item = data[i]
        samples = [x['data_samples'] for x in item['support'] + item['query']]
        assert all(f'/{samples[0].domain}/' in s.img_path for s in samples)


def test_a_single_domain_is_no_set_of_tasks(root):
    with pytest.raises(ValueError, match=r"several domains, got \['b'\].*allow_single_domain"):
        episodes(root, by='domain', dataset=sites(root, ['b']))
    assert episodes(root, by='domain', dataset=sites(root, ['b']), allow_single_domain=True)[0]


def test_an_episode_has_one_style(root):
    options = dict(by='domain', k_shot=2, n_query=2, seed=3)
    off = dict(shuffle=0, gamma=1, contrast=0, stains=0, blur=0, noise=0)
    plain, styled = (
        episodes(root, **options, **s) for s in ({}, dict(style=dict(off, invert=0.5)))
    )
    seen = set()
    for i in range(12):
        images = [
            [x['inputs'] for x in [*d[i]['support'], *d[i]['query']]] for d in (plain, styled)
        ]
        inverted = {torch.equal(255 - a, b) for a, b in zip(*images)}
        same = {torch.equal(a, b) for a, b in zip(*images)}
        assert len(inverted) == len(same) == 1 and inverted != same
        seen |= inverted
    assert seen == {True, False}
    full = episodes(root, style=dict(), **options)
    again = episodes(root, style=dict(), **options)
    for a, b in zip(full[5]['query'], again[5]['query']):
        assert torch.equal(a['inputs'], b['inputs'])


class Listed:
    """A data set of given infos and samples."""

    def __init__(self, infos, samples, names=('x', 'y', 'z')):
        self.infos, self.samples, self.metainfo = infos, samples, dict(classes=names)

    def __len__(self):
        return len(self.infos)

    def get_data_info(self, i):
        return self.infos[i]

    def __getitem__(self, i):
        return dict(inputs=torch.zeros(3, 2, 2), data_samples=self.samples(self.infos[i]))


@pytest.mark.mmpretrain
def test_classification_episodes():
    structures = pytest.importorskip('mmpretrain.structures')
    infos = [dict(gt_label=i % 3) for i in range(12)]
    dataset = Listed(infos, lambda x: structures.DataSample().set_gt_label(x['gt_label']))
    data = DATASETS.build(dict(type='hyper_mm.EpisodeDataset', dataset=dataset, n_way=3, k_shot=2))
    item = data[0]
    labels = [x['data_samples'].gt_label.item() for x in item['support']]
    assert sorted(labels) == [0, 0, 1, 1, 2, 2]


@pytest.mark.mmdet
def test_detection_episodes():
    structures = pytest.importorskip('mmdet.structures')
    infos = [
        dict(
            instances=[dict(bbox_label=k, ignore_flag=0) for k in (i % 3, (i + 1) % 3)],
            seg_map_path=None,
        )
        for i in range(9)
    ]

    def sample(info):
        labels = torch.tensor([x['bbox_label'] for x in info['instances']])
        found = structures.DetDataSample()
        found.gt_instances = InstanceData(labels=labels, bboxes=torch.rand(2, 4))
        return found

    data = DATASETS.build(dict(type='hyper_mm.EpisodeDataset', dataset=Listed(infos, sample)))
    for i in range(5):
        boxes = data[i]['query'][0]['data_samples'].gt_instances
        assert boxes.labels.tolist() == [0] and boxes.bboxes.shape == (1, 4)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(by='image'), 'by'),
        (dict(k_shot=0), 'k_shot'),
        (dict(k_shot=50), 'has 6 images'),
        (dict(n_way=5), 'n_way'),
        (dict(by='domain', n_way=2), 'domain'),
        (dict(by='domain', k_shot=6), 'has 6 images'),
        (dict(by='domain', fold=1), 'fold=1'),
        (dict(novel=True), 'novel'),
        (dict(seed=-1), 'seed'),
        (dict(fold=4), 'fold'),
        (dict(classes=[1, 9]), 'classes'),
    ],
)
def test_bad_options(root, options, message):
    with pytest.raises(ValueError, match=message):
        episodes(root, **options)


def test_data_without_domains():
    dataset = Listed([dict(gt_label=0)], None)
    with pytest.raises(ValueError, match='domain'):
        DATASETS.build(dict(type='hyper_mm.EpisodeDataset', dataset=dataset, by='domain'))


def test_unknown_kind_of_data():
    with pytest.raises(ValueError, match='gt_label'):
        DATASETS.build(dict(type='hyper_mm.EpisodeDataset', dataset=Listed([dict()], None)))
