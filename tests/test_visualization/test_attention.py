"""Summaries of attention maps."""

from __future__ import annotations

import numpy as np
import pytest

from hyper_mm.visualization import attention_summary
from hyper_mm.visualization.attention import check_attention


def test_summary_of_separate_parts():
    leaves = np.repeat(np.eye(4), 3, axis=1)  # four nodes, three positions each
    top = np.repeat(np.eye(2), 6, axis=1)
    bottom, above = attention_summary([leaves, top])
    assert bottom.distinctness == pytest.approx(1) and above.distinctness == pytest.approx(1)
    assert bottom.visible == 4 and bottom.covered == pytest.approx(1)
    assert bottom.nested == 1 and above.nested is None
    assert bottom.spread == pytest.approx(3 / 12)
    np.testing.assert_allclose(bottom.shares, 0.25)
    crossed = attention_summary([leaves, top[:, ::-1]])[0]
    assert crossed.nested == 0


def test_summary_of_collapse():
    (summary,) = attention_summary([np.tile(np.random.default_rng(0).random(12), (4, 1))])
    assert summary.distinctness == pytest.approx(0, abs=1e-12)
    assert summary.visible == 1


class TestAssigned:
    """Shares of a position that sum to 1 over the nodes."""

    def test_one_node_a_position_is_distinct_and_all_alike_is_not(self):
        hard = np.eye(4).repeat(3, 1)  # (4, 12), each node three positions
        (found,) = attention_summary([hard], assigned=True)
        np.testing.assert_allclose(found.shares, 0.25)
        assert found.distinctness == pytest.approx(1) and found.spread == pytest.approx(0.25)
        (found,) = attention_summary([np.full((4, 12), 0.25)], assigned=True)
        assert found.distinctness == pytest.approx(0, abs=1e-12)

    def test_a_node_that_is_not_used_counts_for_nothing(self):
        shares = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        leaves, top = attention_summary([shares, shares[0::2] + shares[1::2]], assigned=True)
        assert (leaves.visible, top.visible) == (2, 1)
        assert leaves.covered == 1 and leaves.nested == 1
        assert leaves.spread == pytest.approx(0.5)  # two positions and one, of three

    def test_winner_is_the_largest_share_and_not_the_narrowest_node(self):
        shares = np.array([[0.6, 0.6, 0.6], [0.4, 0.4, 0.4]])
        narrow = np.array([[0.2, 0.2, 0.6], [0.8, 0.8, 0.4]])
        assert attention_summary([shares], assigned=True)[0].shares.tolist() == [1, 0]
        assert attention_summary([narrow], assigned=True)[0].visible == 2

    def test_columns_are_scaled_and_must_not_be_empty(self):
        (found,) = check_attention([np.array([[2.0, 1.0], [2.0, 3.0]])], assigned=True)
        np.testing.assert_allclose(found, [[0.5, 0.25], [0.5, 0.75]])
        with pytest.raises(ValueError, match='no empty column; level 0'):
            check_attention([np.array([[1.0, 0.0], [1.0, 0.0]])], assigned=True)
