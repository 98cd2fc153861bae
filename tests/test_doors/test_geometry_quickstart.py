"""The quickstart of the geometry runs as it is printed, with torch alone."""

from __future__ import annotations

import torch

from tests.conftest import REPO
from tests.helpers.documents import blocks


def test_every_block_runs():
    torch.manual_seed(0)
    space: dict = {}
    found = [b for b in blocks(REPO / 'docs/geometry_quickstart.md') if b.language == 'python']
    assert len(found) == 5
    for block in found:
        exec(compile(block.text, str(block.path), 'exec'), space)
    assert space['distortion'] < 0.2
    assert space['precision'] > 0.8
