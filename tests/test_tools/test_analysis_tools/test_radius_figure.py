"""The figure of radii and of the Möbius product."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.tools import load_tool

tool = load_tool('analysis_tools/radius_figure.py')


@pytest.mark.parametrize('c', [0.01, 1.0])
def test_radius_after_the_product(c):
    """It is that of the scaled vector, up to the largest one."""
    z, scales = 0.3 * torch.randn(20, 8), np.array([0.1, 1.0, 1.5])
    wanted = [2 * s * z.norm(dim=-1).mean().item() for s in scales]
    np.testing.assert_allclose(tool.scaled_radii(z, scales, c), wanted, rtol=1e-6)
    limit = tool.largest_radius(c)
    np.testing.assert_allclose(tool.scaled_radii(z, np.array([1e4]), c), [limit], rtol=1e-9)
    assert tool.largest_radius(1.0) == pytest.approx(7.6, abs=0.01)


def test_picture(tmp_path):
    file = tmp_path / 'new' / 'radius.png'
    tool.draw(dict(names=torch.randn(9, 4), pixels=10 * torch.randn(30, 4)), file)
    assert np.asarray(Image.open(file)).std() > 10


def test_bad_input(tmp_path):
    with pytest.raises(SystemExit):
        tool.parse_args(['--images', '0'])
    with pytest.raises(FileNotFoundError, match='has no .jpg files'):
        tool.features(tmp_path, 3, 'lite-clip-b0')
