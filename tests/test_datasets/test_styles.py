"""The distribution of appearances."""

import numpy as np
import pytest
import torch

from hyper_mm.datasets.styles import StyleSampler, with_style
from hyper_mm.ops.style import Style


def draws(count=400, **options):
    sampler, random = StyleSampler(**options), np.random.default_rng(0)
    return [sampler.draw(random) for _ in range(count)]


def test_draws_are_within_their_ranges_and_use_them():
    found = draws(gamma=2.0, contrast=0.2, blur=1.5, noise=0.1)
    gammas = np.log2([style.gamma for style in found])
    assert -1 <= gammas.min() < -0.9 and 0.9 < gammas.max() <= 1
    assert {style.invert for style in found} == {True, False}
    assert {style.channels for style in found} >= {None, (2, 1, 0), (1, 2, 0)}
    assert min(s.low for s in found) >= 0 and max(s.low for s in found) <= 0.2
    assert min(s.high for s in found) >= 0.8
    for name, most in (('blur', 1.5), ('noise', 0.1)):
        values = np.array([getattr(style, name) for style in found])
        assert 0.4 < (values == 0).mean() < 0.6 and 0.9 * most < values.max() <= most
    matrix = np.array(found[0].stains)
    np.testing.assert_allclose(matrix.sum(1), 1)
    assert (matrix >= 0).all() and (np.diag(matrix) >= 0.5).all()


def test_nothing_is_drawn_where_all_is_off():
    off = dict(invert=0, shuffle=0, gamma=1, contrast=0, stains=0, blur=0, noise=0)
    assert set(draws(20, **off)) == {Style()}
    assert set(draws(20, prob=0)) == {Style()}


def test_dtype_and_range_of_images():
    x = torch.randint(0, 256, (3, 8, 9), dtype=torch.uint8)
    assert with_style(x, Style()) is x
    assert torch.equal(with_style(x, Style(invert=True)), 255 - x)
    noisy = with_style(x.float(), Style(noise=0.5), 3)
    assert noisy.dtype == torch.float32 and noisy.min() >= 0 and noisy.max() <= 255
    assert torch.equal(noisy, with_style(x.float(), Style(noise=0.5), 3))


@pytest.mark.parametrize(
    'options', [dict(invert=2), dict(gamma=0.5), dict(contrast=0.5), dict(noise=-1)]
)
def test_bad_options(options):
    with pytest.raises(ValueError, match=[*options][0]):
        StyleSampler(**options)
