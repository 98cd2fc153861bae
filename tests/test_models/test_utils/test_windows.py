import pytest
import torch
import torch.nn.functional as F

from hyper_mm.models.utils.windows import GlobalWindows, resize


def test_official_code_has_five_views():
    windows = GlobalWindows()
    assert windows.corners == [(0, 0), (0, 256), (256, 0), (256, 256)]
    assert windows.split(torch.randn(3, 64, 48)).shape == (5, 3, 384, 384)


def test_split():
    image = torch.randn(2, 20, 31)
    parts = GlobalWindows(12, 8, 4).split(image)
    square = F.interpolate(image[None], size=(12, 12), mode='bilinear')
    torch.testing.assert_close(parts[1], square[0, :, :8, 4:])
    torch.testing.assert_close(parts[2], square[0, :, 4:, :8])
    torch.testing.assert_close(parts[4:], F.interpolate(square, size=(8, 8), mode='bilinear'))


def test_merge_equals_fold():
    windows, scores = GlobalWindows(14, 8, 3), torch.rand(10, 5, 8, 8)
    columns = scores[:-1].flatten(1).T[None]
    total = F.fold(columns, (14, 14), 8, stride=3)
    count = F.fold(torch.ones_like(columns), (14, 14), 8, stride=3)
    whole = F.interpolate(scores[-1:], size=(14, 14), mode='bilinear')
    torch.testing.assert_close(windows.merge(scores), (total / count + whole) / 2)


def test_merge_of_split_keeps_what_is_smooth():
    ramp = torch.linspace(0, 1, 12).expand(1, 12, 12)
    windows = GlobalWindows(12, 8, 4)
    merged = windows.merge(windows.split(ramp))[0]
    torch.testing.assert_close(merged, ramp, atol=0.05, rtol=0)


def test_resize_to_the_same_size_is_the_same_tensor():
    x = torch.randn(1, 2, 3, 4)
    assert resize(x, (3, 4)) is x


@pytest.mark.parametrize(
    'arguments', [(640, 384, 200), (384, 640, 256), (640, 384, 0), (640, 128, 256)]
)
def test_windows_that_do_not_cover(arguments):
    with pytest.raises(ValueError, match=f'must cover the square.*size={arguments[0]}'):
        GlobalWindows(*arguments)
