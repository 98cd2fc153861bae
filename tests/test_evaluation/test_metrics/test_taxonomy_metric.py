"""Scores by a tree, of images and pixels."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip('mmengine')

from hyper_mm.registry import METRICS  # noqa: E402

TREE = {'animal': {'bird': ['owl', 'hen'], 'fish': ['cod']}, 'sky': []}


def metric(classes=None, **options):
    made = METRICS.build(dict(type='hyper_mm.TaxonomyMetric', taxonomy=TREE, **options))
    if classes:
        made.dataset_meta = dict(classes=classes)
    return made


def test_pixels():
    made = metric(('owl', 'hen', 'cod', 'sky'))
    truth, found = torch.tensor([[0, 0, 255, 2]]), torch.tensor([[0, 1, 0, 3]])
    sample = dict(gt_sem_seg=dict(data=truth[None]), pred_sem_seg=dict(data=found[None]))
    made.process(None, [sample, sample])
    scores = made.evaluate(2)
    assert scores['tree/accuracy'] == pytest.approx(100 / 3)
    assert scores['tree/accuracy_depth1'] == pytest.approx(200 / 3)
    assert scores['tree/mistake_severity'] == pytest.approx((1 + 3) / 2)


def test_consistency_of_pixels_and_images():
    """Sky, less probable than the animals together; owl; and a pixel that does not count."""
    probability = torch.tensor([[0.2, 0.15, 0.2, 0.45], [0.4, 0.2, 0.1, 0.3], [0.0, 0.0, 0.4, 0.6]])
    made, truth = metric(('owl', 'hen', 'cod', 'sky')), torch.tensor([[3, 0, 255]])
    sample = dict(
        gt_sem_seg=dict(data=truth[None]),
        pred_sem_seg=dict(data=probability.argmax(1)[None, None]),
        seg_logits=dict(data=probability.log().T[:, None]),
    )
    made.process(None, [sample])
    scores = made.evaluate(1)
    assert scores['tree/consistency_depth1'] == 50
    assert scores['tree/consistency_depth2'] == 100
    assert scores['tree/mistake_severity'] == 0
    for p in probability[:2]:
        made.process(None, [dict(gt_label=torch.tensor([0]), pred_score=p)])
    scores = made.evaluate(2)
    assert scores['tree/consistency_depth1'] == 50
    assert scores['tree/consistency_depth2'] == 100
    # as samples of SegTTAModel: merged predictions, and logits of one view
    merged = dict(sample, seg_logits=dict(data=sample['seg_logits']['data'].flip(0)))
    made.process(None, [merged])
    assert 'tree/consistency_depth1' not in made.evaluate(1)
    del sample['seg_logits']
    made.process(None, [sample])
    assert 'tree/consistency_depth1' not in made.evaluate(1)


def test_images_in_the_order_of_the_data_set():
    made = metric(('sky', 'cod', 'hen', 'owl'), topk=(1, 2))
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4])  # owl, then hen
    made.process(None, [dict(gt_label=torch.tensor([3]), pred_score=scores)])
    made.process(None, [dict(gt_label=torch.tensor([1]), pred_score=scores)])
    found = made.evaluate(2)
    assert found['tree/accuracy'] == 50
    assert found['tree/mistake_severity'] == 2
    assert found['tree/distance_at_1'] == pytest.approx(1)
    assert found['tree/distance_at_2'] == pytest.approx((0 + 1 + 2 + 2) / 4)


def test_labels_without_scores():
    made = metric()
    made.process(None, [dict(gt_label=torch.tensor([0]), pred_label=torch.tensor([1]))])
    assert made.evaluate(1)['tree/mistake_severity'] == 1


def test_refuses():
    with pytest.raises(ValueError, match="no class 'dog'"):
        metric(('owl', 'hen', 'cod', 'dog'))
    with pytest.raises(ValueError, match='topk must be'):
        metric(topk=(0,))
    with pytest.raises(ValueError, match='needs gt_sem_seg and pred_sem_seg'):
        metric().process(None, [dict(gt_label=torch.tensor([0]))])
