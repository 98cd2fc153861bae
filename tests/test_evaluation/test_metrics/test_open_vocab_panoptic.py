import mmcv
import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')

from mmengine.registry import DATASETS, METRICS, init_default_scope  # noqa: E402

from tests.helpers.open_vocab_pan import CLASSES, dataset, write_panoptic  # noqa: E402


@pytest.fixture(scope='module')
def samples(tmp_path_factory):
    """The truth as a prediction."""
    init_default_scope('mmdet')
    load = [dict(type='LoadImageFromFile'), dict(type='hyper_mm.LoadPanopticSegments')]
    found = DATASETS.build(dataset(write_panoptic(tmp_path_factory.mktemp('pan')), load))
    items = []
    for item in found:
        png = mmcv.imread(item['seg_map_path'], 'color', 'rgb').astype(int)
        ids = png @ np.array([1, 256, 65536])
        sem = np.full(ids.shape, len(CLASSES))
        for index, segment in enumerate(item['segments_info']):
            thing = CLASSES[segment['category']] in CLASSES[:3]
            sem[ids == segment['id']] = segment['category'] + thing * 1000 * (index + 1)
        keys = ('img_path', 'seg_map_path', 'segments_info')
        sample = {key: item[key] for key in keys}
        items.append(dict(sample, pred_panoptic_seg=dict(sem_seg=torch.from_numpy(sem)[None])))
    return items, found.metainfo


def score(samples, **options):
    items, meta = samples
    metric = METRICS.build(dict(type='hyper_mm.OpenVocabPanopticMetric', **options))
    metric.dataset_meta = meta
    metric.process({}, items)
    return metric.evaluate(len(items))


def test_truth_is_perfect(samples):
    found = score(samples, unseen_classes=['cross', 'sky'])
    for part in ('', '_th', '_st', '_seen', '_unseen'):
        for name in ('PQ', 'SQ', 'RQ'):
            assert found[f'coco_panoptic/{name}{part}'] == 100


def test_wrong_names_of_a_class(samples):
    items, meta = samples
    wrong = []
    for item in items:
        sem = item['pred_panoptic_seg']['sem_seg'].clone()
        sem[sem == 4] = 3  # sky as grass
        wrong.append(dict(item, pred_panoptic_seg=dict(sem_seg=sem)))
    found = score((wrong, meta), seen_classes=CLASSES[:4])
    assert found['coco_panoptic/PQ_unseen'] == 0
    assert found['coco_panoptic/PQ_th'] == 100 > found['coco_panoptic/PQ_seen'] > 0


def test_bad_values(samples):
    items, meta = samples
    with pytest.raises(ValueError, match='both'):
        score(samples, seen_classes=[], unseen_classes=[])
    with pytest.raises(ValueError, match='moon'):
        score(samples, unseen_classes=['moon'])
    with pytest.raises(ValueError, match='meta_keys'):
        score(([dict(items[0], segments_info=None)], meta))
    small = dict(sem_seg=torch.zeros(1, 5, 5))
    with pytest.raises(ValueError, match='one size'):
        score(([dict(items[0], pred_panoptic_seg=small)], meta))
