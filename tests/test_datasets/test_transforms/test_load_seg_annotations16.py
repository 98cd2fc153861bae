"""Label maps of 16 bits."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmcv')

from hyper_mm.registry import TRANSFORMS  # noqa: E402

LOAD = dict(type='hyper_mm.LoadSegAnnotations16')


def results(path, **known):
    return dict(seg_map_path=str(path), seg_fields=[], label_map=None, **known)


def test_labels_and_subsets_of_classes(tmp_path):
    Image.fromarray(np.array([[0, 255, 600, 65535]], np.uint16)).save(tmp_path / 'a.tif')
    found = TRANSFORMS.build(LOAD)(results(tmp_path / 'a.tif'))
    assert found['gt_seg_map'].tolist() == [[0, 255, 600, 65535]]
    assert found['seg_fields'] == ['gt_seg_map']
    renamed = dict(results(tmp_path / 'a.tif'), label_map={0: 65535, 255: 0, 600: 255})
    assert TRANSFORMS.build(LOAD)(renamed)['gt_seg_map'].tolist() == [[65535, 0, 255, 65535]]


def test_without_labels_as_in_inference():
    for nothing in (dict(img_path='x'), dict(img_path='x', seg_map_path=None)):
        assert TRANSFORMS.build(LOAD)(dict(nothing)) == nothing


def test_bad_files(tmp_path):
    Image.new('RGB', (2, 2)).save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match='a.png must be a label map'):
        TRANSFORMS.build(LOAD)(results(tmp_path / 'a.png'))
    (tmp_path / 'b.png').write_bytes(b'none')
    with pytest.raises(ValueError, match='b.png must be a label map .*no image'):
        TRANSFORMS.build(LOAD)(results(tmp_path / 'b.png'))
    with pytest.raises(ValueError, match='reduce_zero_label=False'):
        TRANSFORMS.build(LOAD)(results(tmp_path / 'a.png', reduce_zero_label=True))


def test_backends(tmp_path):
    """Files come from the backend that is named."""
    Image.fromarray(np.array([[3]], np.uint16)).save(tmp_path / 'a.tif')
    load = TRANSFORMS.build(dict(LOAD, backend_args=dict(backend='local')))
    assert load(results(tmp_path / 'a.tif'))['gt_seg_map'].tolist() == [[3]]
    load = TRANSFORMS.build(dict(LOAD, backend_args=dict(backend='none')))
    with pytest.raises(KeyError, match='none'):
        load(results(tmp_path / 'a.tif'))
