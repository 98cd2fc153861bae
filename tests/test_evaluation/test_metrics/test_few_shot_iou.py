"""Overlap of few-shot segmentation."""

import pytest
import torch

from hyper_mm.registry import METRICS


def sample(predicted, labels, classes=None):
    def data(x):
        return dict(data=torch.as_tensor(x)[None])

    ways = {} if classes is None else dict(episode_classes=classes)
    return dict(pred_sem_seg=data(predicted), gt_sem_seg=data(labels), **ways)


def evaluate(samples, names='abcdefgh'):
    metric = METRICS.build(dict(type='hyper_mm.FewShotIoUMetric'))
    metric.dataset_meta = dict(classes=list(names))
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def test_pixels_are_summed_by_class_over_episodes():
    found = evaluate(
        [
            sample([[1, 1, 0, 0]], [[1, 0, 0, 255]], (4,)),  # class 4: 1 of 2
            sample([[0, 2, 2, 0]], [[0, 2, 0, 1]], (7, 4)),  # class 4: 1 of 2, class 7: 0 of 1
        ]
    )
    assert found['mIoU'] == pytest.approx(100 * (2 / 4 + 0) / 2)
    assert found['mDice'] == pytest.approx(100 * (4 / 6 + 0) / 2)
    assert found['FBIoU'] == pytest.approx(100 * (2 / 5 + 2 / 5) / 2)


def test_without_ways_labels_are_the_classes():
    found = evaluate([sample([[0, 1, 2]], [[0, 1, 1]])], 'abc')
    assert found['mIoU'] == pytest.approx(100 * (1 / 2 + 0) / 2)


def test_a_batch_counts_as_one_item_of_the_data_set():
    metric = METRICS.build(dict(type='hyper_mm.FewShotIoUMetric'))
    metric.dataset_meta = dict(classes=['a', 'b'])
    for labels in ([[1, 0]], [[0, 1]]):  # two episodes of two queries, one of them wrong
        metric.process({}, [sample([[1, 0]], labels, (1,)), sample([[1, 0]], [[1, 0]], (1,))])
    assert metric.evaluate(2)['mIoU'] == pytest.approx(100 * 3 / 5)


def test_perfect_and_empty():
    assert evaluate([sample([[0, 1]], [[0, 1]], (3,))])['mIoU'] == 100
    assert torch.tensor(evaluate([sample([[0, 0]], [[0, 0]], (3,))])['mIoU']).isnan()
    with pytest.raises(ValueError, match='predictions'):
        evaluate([sample([[0, 1]], [[0]], (3,))])


def test_pixels_of_the_ignored_label_do_not_count():
    metric = METRICS.build(dict(type='hyper_mm.FewShotIoUMetric', ignore_index=7))
    metric.dataset_meta = dict(classes=['a', 'b'])
    metric.process({}, [sample([[1, 1, 0, 0]], [[1, 7, 7, 0]], (1,))])
    assert metric.evaluate(1)['mIoU'] == 100
