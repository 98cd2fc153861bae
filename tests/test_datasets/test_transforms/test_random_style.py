"""Images with the appearance of another device."""

import numpy as np
import pytest

from hyper_mm.registry import TRANSFORMS


def build(**options):
    return TRANSFORMS.build(dict(type='hyper_mm.RandomStyle', **options))


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_draws_by_the_seed_of_numpy(dtype):
    image = np.random.default_rng(0).integers(0, 256, (10, 12, 3)).astype(dtype)
    transform = build()
    found = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        found.append(transform(dict(img=image.copy()))['img'])
    assert found[0].dtype == dtype and found[0].shape == image.shape
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])
    assert not np.array_equal(found[0], image)


def test_options():
    off = dict(shuffle=0, gamma=1, contrast=0, stains=0, blur=0, noise=0)
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    found = build(invert=1, **off)(dict(img=image))['img']
    assert np.array_equal(found, 255 - image)
    assert 'invert' in repr(build(invert=1))
    with pytest.raises(ValueError, match='shuffle'):
        build(shuffle=3)
