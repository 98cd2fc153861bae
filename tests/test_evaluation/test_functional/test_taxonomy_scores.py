"""Scores by a tree of labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hyper_mm.evaluation.functional import taxonomy_scores as S
from hyper_mm.layers.taxonomy import Taxonomy

TREE = Taxonomy.load({'animal': {'bird': ['owl', 'hen'], 'fish': ['cod']}, 'sky': []})


def test_scores_of_a_few_predictions():
    labels = np.array([0, 0, 0, 1, 2, 3, 255])
    predictions = np.array([0, 1, 2, 1, 2, 0, 0])
    counts = S.confusion(labels, predictions, 4)
    assert counts.sum() == 6
    scores = S.tree_scores(counts, TREE)
    assert scores['accuracy'] == pytest.approx(50)
    # mistakes: owl for hen (1), owl for cod (2), sky for owl (3)
    assert scores['mistake_severity'] == pytest.approx(2)
    assert scores['hierarchical_distance'] == pytest.approx(1)
    assert scores['tree_distance'] == pytest.approx((2 + 4 + 4) / 6)
    assert scores['accuracy_depth1'] == pytest.approx(100 * 5 / 6)
    assert scores['accuracy_depth2'] == pytest.approx(100 * 4 / 6)
    assert scores['mIoU_depth1'] == pytest.approx(100 * (0 + 5 / 6) / 2)


def test_no_mistake_has_severity_zero():
    scores = S.tree_scores(np.eye(4, dtype=int), TREE)
    assert scores['mistake_severity'] == scores['hierarchical_distance'] == 0
    assert scores['mIoU'] == scores['mIoU_depth1'] == 100


def test_ious_leave_out_what_is_nowhere():
    counts = np.zeros((4, 4), int)
    counts[0, 0] = counts[0, 1] = 1
    found = S.level_ious(counts, np.arange(4))
    assert found[:2].tolist() == [0.5, 0]
    assert np.isnan(found[2:]).all()


def test_distance_at_k():
    ranking = np.array([[0, 1], [2, 3]])
    assert S.distance_at(np.array([0, 2]), ranking, TREE) == pytest.approx((0 + 1 + 0 + 3) / 4)


@pytest.mark.parametrize(
    ('probability', 'expected'),
    [
        ([0.2, 0.15, 0.2, 0.45], [0, 1]),  # sky, less than the animals together
        ([0.4, 0.2, 0.1, 0.3], [1, 1]),  # owl, a bird and an animal
        ([0.25, 0.25, 0.3, 0.2], [1, 0]),  # cod, an animal, less than the birds together
    ],
)
def test_consistency(probability, expected):
    probability = torch.tensor(probability)[:, None].expand(4, 3)
    found = S.consistent_counts(probability, probability.argmax(0), TREE)
    assert (found == 3 * np.array(expected)).all()


def test_sparsification():
    rng = np.random.default_rng(0)
    error = (rng.random(2000) < 0.3).astype(float)
    assert S.area_under_sparsification(error, error) == pytest.approx(0)
    random = S.area_under_sparsification(error, rng.random(2000))
    assert 0.3 < random < S.area_under_sparsification(error, -error)
    assert S.area_under_sparsification(np.zeros(5), rng.random(5)) == 0


def test_calibration():
    rng = np.random.default_rng(0)
    confidence = rng.random(20000)
    correct = rng.random(20000) < confidence
    assert S.calibration_error(correct, confidence) < 0.02
    assert S.calibration_error(correct, np.ones(20000)) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize('wrong', [-1, 4, 255])
def test_predictions_that_are_no_class(wrong):
    """They would count in the row of another class."""
    labels = np.array([0, 2, 255], np.uint8)
    with pytest.raises(ValueError, match=rf'predictions must be classes 0..3, got \[{wrong}\]'):
        S.confusion(labels, np.array([0, wrong, 0]), 4)
    assert S.confusion(labels, np.array([0, 1, wrong]), 4).sum() == 2  # no label there
