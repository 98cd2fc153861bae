import numpy as np
import pytest

from hyper_mm.evaluation.functional.panoptic_quality import match_segments, panoptic_quality


def straightforward(predicted, labels, truth, segments, classes):
    """Every pair by its masks, as the paper writes it."""
    out = np.zeros((4, classes))
    known = {s['id'] for s in segments}
    void = ~np.isin(truth, list(known))
    hit = set()
    for p, label in labels.items():
        mask, matched = predicted == p, False
        for s in segments:
            other = truth == s['id']
            if s['category'] != label or s.get('iscrowd'):
                continue
            shared = (mask & other).sum()
            union = (mask | other).sum() - (mask & void).sum()
            if shared / union > 0.5:
                out[0, label] += shared / union
                out[1, label] += 1
                hit.add(s['id'])
                matched = True
        ignored = void.copy()
        for s in segments:
            if s.get('iscrowd') and s['category'] == label:
                ignored |= truth == s['id']
        if not matched and (mask & ignored).sum() / mask.sum() <= 0.5:
            out[2, label] += 1
    for s in segments:
        if s['id'] not in hit and not s.get('iscrowd'):
            out[3, s['category']] += 1
    return out


def random_scene(seed):
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 6, (4, 5))
    truth = np.kron(coarse, np.ones((5, 5), int)) * 100
    predicted = np.where(generator.random((20, 25)) < 0.8, truth, generator.integers(0, 6) * 100)
    predicted = np.roll(predicted, generator.integers(0, 3), 1) + 7
    category = generator.integers(0, 3, 6)
    segments = [
        dict(id=100 * i, category=int(category[i]), iscrowd=int(i == 2)) for i in range(1, 6)
    ]
    wrong = generator.random(6) < 0.3
    labels = {
        int(p): int((category[(p - 7) // 100] + wrong[(p - 7) // 100]) % 3)
        for p in np.unique(predicted) if p != 7
    }  # fmt: skip
    return predicted, labels, truth, segments


@pytest.mark.parametrize('seed', range(20))
def test_matches(seed):
    scene = random_scene(seed)
    np.testing.assert_allclose(match_segments(*scene, 3), straightforward(*scene, 3))


def test_perfect_prediction():
    truth = np.repeat([[1, 2, 3]], 4, 0)
    segments = [dict(id=i, category=i - 1) for i in (1, 2)]
    counts = match_segments(truth, {1: 0, 2: 1}, truth, segments, 3)
    found = panoptic_quality(counts, range(3))
    assert found == dict(PQ=100.0, SQ=100.0, RQ=100.0)  # the third class is nowhere
    assert np.isnan(panoptic_quality(counts, [2])['PQ'])


def test_quality_is_the_product_of_both_for_a_class():
    counts = np.array([[1.5], [2.0], [1.0], [3.0]])
    found = panoptic_quality(counts, [0])
    assert found['SQ'] == pytest.approx(75) and found['RQ'] == pytest.approx(50)
    assert found['PQ'] == pytest.approx(37.5)


def test_nothing_predicted_and_nothing_there():
    truth, nothing = np.ones((3, 3), int), np.zeros((3, 3), int)
    missed = match_segments(nothing, {}, truth, [dict(id=1, category=0)], 1)
    assert missed[:, 0].tolist() == [0, 0, 0, 1]
    in_void = match_segments(truth, {1: 0}, nothing, [], 1)
    assert in_void.sum() == 0


def test_bad_sizes():
    with pytest.raises(ValueError, match='size'):
        match_segments(np.zeros((2, 2)), {}, np.zeros((2, 3)), [], 1)
