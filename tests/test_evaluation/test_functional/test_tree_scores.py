import itertools

import numpy as np
import pytest

from hyper_mm.evaluation.functional.tree_scores import containment, purity, triplet_agreement

TREE = np.array([[0, 1, 2, 3], [0, 0, 1, 1]])
"""Four leaves, two parents."""
WHOLES = np.array([0, 0, 1, 1])


def test_purity_by_hand():
    counts = np.array([[6, 2], [1, 1]])
    assert purity(counts) == pytest.approx(0.7)
    # shares of the parts: 6/7 and 2/3, 1/7 and 1/3
    assert purity(counts, balanced=True) == pytest.approx((6 / 7 + 1 / 3) / 2)


def test_purity_ignores_classes_without_pixels():
    assert purity(np.array([[3, 0], [0, 0]]), balanced=True) == 1


def test_containment_by_hand():
    joint = np.array([[3, 1], [2, 0], [0, 4]])
    assert containment(joint, np.array([0, 0, 1])) == pytest.approx(0.9)


def test_triplets_of_the_true_tree_agree():
    assert triplet_agreement(np.eye(4) * 7, TREE, WHOLES) == pytest.approx((1, 1))


def test_triplets_of_a_wrong_tree_disagree():
    part, whole = triplet_agreement(np.eye(4), TREE, np.array([0, 1, 0, 1]))
    assert part == pytest.approx(1)  # leaves are pure, whatever the tree
    assert whole == pytest.approx(-0.5)  # of two strangers, one is the sibling, one is as far


def test_triplets_of_one_leaf_are_ties():
    counts = np.zeros((4, 4))
    counts[0] = 5
    assert triplet_agreement(counts, TREE, WHOLES) == pytest.approx((0, 0))


def test_triplets_equal_enumeration():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, (4, 5)).astype(float)
    wholes = np.array([0, 0, 1, 1, 2])
    share = counts / counts.sum(0)

    def join(a, b):
        return next((k for k, level in enumerate(TREE) if level[a] == level[b]), len(TREE))

    def agreement(p, q, r):
        total = 0
        for a, b, c in itertools.product(range(4), repeat=3):
            sign = np.sign(join(a, c) - join(a, b))
            total += sign * share[a, p] * share[b, q] * share[c, r]
        return total

    parts = [agreement(p, p, r) for p in range(5) for r in range(5) if r != p]
    whole = [
        np.mean(
            [
                agreement(p, q, r)
                for q in range(5)
                for r in range(5)
                if q != p and wholes[q] == wholes[p] != wholes[r]
            ]
        )
        for p in range(4)
    ]
    assert triplet_agreement(counts, TREE, wholes) == pytest.approx(
        (np.mean(parts), np.mean(whole))
    )


def test_no_triplets_without_a_second_whole():
    part, whole = triplet_agreement(np.eye(4), TREE, np.zeros(4, int))
    assert part == pytest.approx(1)
    assert np.isnan(whole)
