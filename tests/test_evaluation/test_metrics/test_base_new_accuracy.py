"""Accuracy from base to new classes."""

import math

import pytest
import torch

pytest.importorskip('mmengine')

from hyper_mm.registry import METRICS  # noqa: E402

META = dict(classes=('a', 'b', 'c', 'd', 'e'), subsample='all')


def evaluate(scores, labels, meta=META, **options):
    metric = METRICS.build(dict(type='hyper_mm.BaseNewAccuracy', **options))
    metric.dataset_meta = meta
    samples = [
        dict(pred_score=torch.tensor(s, dtype=torch.float), gt_label=torch.tensor([y]))
        for s, y in zip(scores, labels)
    ]
    for sample in samples:
        metric.process({}, [sample])
    return metric.evaluate(len(samples))


def test_values():
    scores = [
        [3, 1, 0, 9, 0],  # base 0: right among its half, though a new class is higher
        [3, 1, 0, 9, 0],  # base 1: wrong
        [0, 0, 1, 0, 0],  # base 2: right
        [0, 0, 1, 0, 0],  # base 2: right
        [9, 0, 0, 1, 2],  # new 4: right
        [9, 0, 0, 1, 2],  # new 3: wrong
    ]
    found = evaluate(scores, [0, 1, 2, 2, 4, 3], per_class=True)
    assert found == {
        'base_new/base': 75.0,
        'base_new/new': 50.0,
        'base_new/HM': pytest.approx(60.0),
        'base_new/mean_class': pytest.approx(60.0),
        'base_new/per_class': [100.0, 0.0, 100.0, 0.0, 100.0],
    }


def test_a_class_without_images():
    found = evaluate([[1, 0, 0, 0, 0], [0, 0, 0, 1, 0]], [0, 3], per_class=True)
    assert found['base_new/HM'] == 100.0 and found['base_new/mean_class'] == 100.0
    assert [math.isnan(x) for x in found['base_new/per_class']] == [False, True, True, False, True]


def test_nothing_found():
    found = evaluate([[0, 1, 0, 0, 0], [0, 0, 0, 0, 1]], [0, 3])
    assert found['base_new/HM'] == 0.0


def test_metainfo_is_not_needed():
    assert evaluate([[1.0, 0.0], [0.0, 1.0]], [0, 1], meta=None)['base_new/HM'] == 100.0


def test_half_a_data_set():
    with pytest.raises(ValueError, match="subsample='all', got 'new'"):
        evaluate([[1.0, 0.0]], [0], meta=dict(META, subsample='new'))
    with pytest.raises(ValueError, match='no images of new classes'):
        evaluate([[1.0, 0.0]], [0])
