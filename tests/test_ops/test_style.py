"""Appearances of images."""

import pytest
import torch

from hyper_mm.ops.style import Style, apply_style, blur, mix_stains


def image(channels=3, dtype=torch.float64):
    return torch.rand(channels, 12, 15, dtype=dtype)


def test_the_default_changes_nothing():
    x = image()
    torch.testing.assert_close(apply_style(x, Style()), x, rtol=0, atol=0)


def test_each_part_by_its_formula():
    x = image()
    torch.testing.assert_close(apply_style(x, Style(invert=True)), 1 - x)
    torch.testing.assert_close(apply_style(x, Style(channels=(2, 0, 1))), x[[2, 0, 1]])
    torch.testing.assert_close(apply_style(x, Style(gamma=2.0)), x * x)
    torch.testing.assert_close(apply_style(x, Style(low=0.2, high=0.7)), 0.2 + 0.5 * x)
    matrix = ((0.5, 0.5, 0.0), (0.0, 1.0, 0.0), (0.2, 0.2, 0.6))
    mixed = apply_style(x, Style(stains=matrix))
    x = x.clamp(1 / 255)
    torch.testing.assert_close(mixed[0], (x[0] * x[1]).sqrt())
    torch.testing.assert_close(mixed[1], x[1])


def test_gray_images_stay_gray_under_other_stains():
    gray = torch.rand(1, 5, 6, dtype=torch.float64).clamp(1 / 255).expand(3, -1, -1)
    matrix = torch.rand(3, 3, dtype=torch.float64)
    torch.testing.assert_close(mix_stains(gray, matrix / matrix.sum(1, keepdim=True)), gray)


def test_blur_keeps_constants_and_spreads_a_point():
    flat = torch.full((2, 9, 9), 0.3, dtype=torch.float64)
    torch.testing.assert_close(blur(flat, 1.3), flat)
    point = torch.zeros(1, 21, 21, dtype=torch.float64)
    point[0, 10, 10] = 1
    spread = blur(point, 1.0)
    torch.testing.assert_close(spread.sum(), torch.ones((), dtype=torch.float64))
    places = torch.arange(21.0, dtype=torch.float64) - 10
    variance = (spread[0].sum(0) * places**2).sum()
    assert variance == pytest.approx(1.0, abs=0.05)  # cut at three standard deviations
    assert blur(torch.rand(1, 1, 4), 2.0).shape == (1, 1, 4)


def test_noise_is_that_of_the_generator():
    x = torch.full((3, 40, 40), 0.5, dtype=torch.float64)
    first, same, other = (
        apply_style(x, Style(noise=0.1), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert first.std() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize('style', [Style(channels=(0, 1)), Style(stains=((1.0,),))])
def test_other_numbers_of_channels_are_refused(style):
    with pytest.raises(ValueError, match='3 channels'):
        apply_style(image(), style)
