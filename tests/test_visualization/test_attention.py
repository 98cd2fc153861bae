"""Summaries of attention maps."""

from __future__ import annotations

import numpy as np
import pytest

from hyper_mm.visualization import (
    attention_summary,
)


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
