"""Pictures of hyperbolic geometry."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('matplotlib')

from PIL import Image  # noqa: E402

from hyper_mm.visualization import geometry_gallery  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402


def test_draws_all_pictures(tmp_path, monkeypatch):
    tool = load_tool('analysis_tools/geometry_gallery.py')
    monkeypatch.setattr(geometry_gallery, 'GRID', 40)
    tool.main(['--out', str(tmp_path)])
    image = np.asarray(Image.open(tmp_path / 'geometry_gallery.png').convert('L'))
    width = image.shape[1] // 5
    for k in range(5):  # each of the five has ink
        assert (image[:, k * width : (k + 1) * width] < 200).mean() > 0.01
