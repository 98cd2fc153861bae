"""Calibration and sparsification of predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip('mmengine')

from hyper_mm.evaluation.functional import taxonomy_scores as scores  # noqa: E402
from hyper_mm.evaluation.metrics.uncertainty_metric import UncertaintyMetric  # noqa: E402


def pixels(logits, labels, radius=None):
    sample = dict(gt_sem_seg=dict(data=labels[None]), seg_logits=dict(data=logits))
    if radius is not None:
        sample['embedding_radius'] = dict(data=radius[None])
    return sample


def example(seed=0, size=20):
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(3, size, size, generator=draw)
    labels = torch.randint(3, (size, size), generator=draw)
    labels[0] = 255
    return logits, labels


def test_scores_are_those_of_the_functions():
    logits, labels = example()
    metric = UncertaintyMetric(pixels=1000)
    radius = logits.abs().amax(0)
    metric.process(None, [pixels(logits, labels, radius)])
    found = metric.compute_metrics(metric.results)
    counted = (labels != 255).flatten()
    p = logits.flatten(1)[:, counted].softmax(0)
    error = (p.argmax(0) != labels.flatten()[counted]).double().numpy()
    assert found['ece'] == pytest.approx(
        100 * scores.calibration_error(1 - error, p.amax(0).numpy()), abs=1e-4
    )
    entropy = -(p * p.log()).sum(0).numpy()
    assert found['ause_entropy'] == pytest.approx(
        scores.area_under_sparsification(error, entropy), abs=1e-4
    )
    expected = scores.area_under_sparsification(error, -radius.flatten()[counted].numpy())
    assert found['ause_radius'] == pytest.approx(expected, abs=1e-4)


def test_images_and_few_pixels():
    metric = UncertaintyMetric()
    for k in range(4):
        score = torch.tensor([0.7, 0.2, 0.1])
        metric.process(None, [dict(pred_score=score, gt_label=torch.tensor([int(k == 3)]))])
    found = metric.compute_metrics(metric.results)
    assert set(found) == {'ece', 'ause_entropy'}
    assert found['ece'] == pytest.approx(5.0, abs=1e-4)
    few = UncertaintyMetric(pixels=7)
    few.process(None, [pixels(*example())] * 2)
    assert [len(r[0]) for r in few.results] == [7, 7]
    assert np.isnan(few.results[0][3]).all()


def test_refuses():
    with pytest.raises(ValueError, match='bins must be'):
        UncertaintyMetric(bins=0)
    metric = UncertaintyMetric()
    with pytest.raises(ValueError, match='needs gt_sem_seg and seg_logits'):
        metric.process(None, [dict(pred_label=1)])
    with pytest.raises(ValueError, match='two classes or more'):
        metric.process(None, [pixels(torch.zeros(1, 2, 2), torch.zeros(2, 2).long())])
    # as samples of SegTTAModel: merged predictions, and logits of one view
    logits, labels = example()
    for found, fits in ((logits.argmax(0), True), (logits.argmin(0), False)):
        sample = dict(pixels(logits, labels), pred_sem_seg=dict(data=found[None]))
        if fits:
            metric.process(None, [sample])
        else:
            with pytest.raises(ValueError, match='not those of pred_sem_seg .SegTTAModel'):
                metric.process(None, [sample])
    metric.results = [tuple(np.zeros(0) for _ in range(4))]
    with pytest.raises(ValueError, match='no pixel with a label'):
        metric.compute_metrics(metric.results)
