"""Scenes and a written data set that several files test."""

from __future__ import annotations

from pathlib import Path

import pytest

from hyper_mm.datasets import part_scenes as ps

SIZE = (48, 64)


@pytest.fixture(scope='session')
def samples() -> list[ps.Sample]:
    return [ps.render_scene(seed=0, index=i) for i in range(100)]


@pytest.fixture(scope='session')
def written(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('part_scenes')
    ps.generate(out, ('ade', 'coco', 'imagenet'), 14, 12, SIZE, seed=3, progress=False)
    return out
