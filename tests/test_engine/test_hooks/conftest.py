"""Drawn folders of five classes, for runs of prompted CLIP."""

import numpy as np
import pytest


@pytest.fixture(scope='session')
def images(tmp_path_factory):
    """Four pictures for each of five classes."""
    mmcv = pytest.importorskip('mmcv')
    root, draw = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    for name in ('ant', 'bee', 'cat', 'dog', 'elk'):
        for i in range(4):
            picture = draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            mmcv.imwrite(picture, str(root / name / f'{i}.png'))
    return root


@pytest.fixture
def no_scope():
    """Leaves no default scope behind for other tests."""
    registry = pytest.importorskip('mmengine.registry')
    yield
    registry.DefaultScope._instance_dict.clear()
