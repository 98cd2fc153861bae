"""Images of more than 8 bits."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmcv')

from hyper_mm.registry import TRANSFORMS  # noqa: E402


def test_windows(tmp_path):
    load = TRANSFORMS.build(dict(type='hyper_mm.LoadImageWindow', low=100, high=300))
    path = tmp_path / 'x.tif'
    Image.fromarray(np.array([[0, 100], [200, 999]], np.uint16)).save(path)
    found = load(dict(img_path=str(path)))
    assert found['img'][..., 0].tolist() == [[0, 0], [127.5, 255]]
    assert found['img'].dtype == np.float32 and found['ori_shape'] == (2, 2)
    Image.fromarray(np.array([[[100, 150, 200]]], np.uint8)).save(tmp_path / 'c.png')
    color = load(dict(img_path=str(tmp_path / 'c.png')))['img']
    assert color.tolist() == [[[127.5, 63.75, 0]]]  # BGR, as LoadImageFromFile
    Image.new('RGBA', (2, 2)).save(tmp_path / 'd.png')
    with pytest.raises(ValueError, match='d.png must have one or three channels'):
        load(dict(img_path=str(tmp_path / 'd.png')))
    (tmp_path / 'e.png').write_bytes(b'none')
    with pytest.raises(ValueError, match='e.png is no image'):
        load(dict(img_path=str(tmp_path / 'e.png')))
    with pytest.raises(ValueError, match='low must be below high, got 3 and 3'):
        TRANSFORMS.build(dict(type='hyper_mm.LoadImageWindow', low=3, high=3))


def test_backends(tmp_path):
    """Files come from the backend that is named."""
    Image.fromarray(np.array([[0, 4095]], np.uint16)).save(tmp_path / 'a.png')
    local = dict(type='hyper_mm.LoadImageWindow', low=0, high=4095)
    load = TRANSFORMS.build(dict(local, backend_args=dict(backend='local')))
    assert load(dict(img_path=str(tmp_path / 'a.png')))['img'][..., 0].tolist() == [[0, 255]]
    load = TRANSFORMS.build(dict(local, backend_args=dict(backend='none')))
    with pytest.raises(KeyError, match='none'):
        load(dict(img_path=str(tmp_path / 'a.png')))
