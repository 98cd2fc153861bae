import pytest
import torch

from hyper_mm.models import SimpleFeaturePyramid
from tests.helpers.gradients import dead_parameters


@pytest.mark.parametrize('size', [(4, 6), (5, 3), (1, 1)])
def test_strides_and_channels(size):
    levels = SimpleFeaturePyramid(8, 16)((torch.randn(2, 8, *size),))
    h, w = size
    expected = [(4 * h, 4 * w), (2 * h, 2 * w), (h, w), (-(-h // 2), -(-w // 2))]
    expected.append(tuple(-(-n // 2) for n in expected[-1]))
    assert [x.shape for x in levels] == [(2, 16, *s) for s in expected]


def test_last_map_counts():
    neck = SimpleFeaturePyramid(8, 16)
    x = torch.randn(1, 8, 4, 4)
    for a, b in zip(neck(x), neck((torch.randn(1, 3, 9, 9), x))):
        torch.testing.assert_close(a, b)


def test_each_position_is_normalised_over_channels():
    neck = SimpleFeaturePyramid(8, 16)
    for level in neck((torch.randn(2, 8, 4, 4),))[:4]:
        torch.testing.assert_close(level.mean(1), torch.zeros_like(level[:, 0]), rtol=0, atol=1e-5)
        spread = level.var(1, unbiased=False)
        torch.testing.assert_close(spread, torch.ones_like(spread), rtol=1e-2, atol=1e-2)


def test_no_dead_parameters():
    neck = SimpleFeaturePyramid(8, 16).double()
    levels = neck((torch.randn(2, 8, 4, 4, dtype=torch.float64),))
    sum(x.square().sin().sum() for x in levels).backward()
    assert not dead_parameters(neck)


def test_fewer_scales():
    levels = SimpleFeaturePyramid(8, 16, scales=(1, 0.5), num_outs=3)((torch.randn(1, 8, 8, 8),))
    assert [x.shape[-1] for x in levels] == [8, 4, 2]


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(scales=(3, 1)), 'scales must be of'),
        (dict(scales=(1, 2)), 'in descending order'),
        (dict(scales=()), 'scales must be of'),
        (dict(num_outs=3), 'num_outs must be at least 4, got 3'),
        (dict(in_channels=6), 'in_channels must be divisible by 4, got 6'),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        SimpleFeaturePyramid(**{'in_channels': 8, **options})


@pytest.mark.parametrize('shape', [(2, 6, 4, 4), (2, 16, 8)])
def test_features_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r'takes a map \(B, 8, H, W\), got'):
        SimpleFeaturePyramid(8)((torch.randn(shape),))
