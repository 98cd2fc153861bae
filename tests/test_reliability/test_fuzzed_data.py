"""Damaged image files through every loader of ours, and odd images through every transform.

Damaged annotations are in the tests of the data sets that read them (tests/helpers/fuzz.py).
"""

from __future__ import annotations

import copy
import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

for library in ('mmseg', 'mmdet'):
    pytest.importorskip(library)

from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope  # noqa: E402

from tests.helpers.fuzz import FAST, changed, damaged, reads  # noqa: E402
from tests.helpers.open_vocab_pan import dataset, write_panoptic  # noqa: E402

# loaders


def png(array: np.ndarray) -> bytes:
    return cv2.imencode('.png', array)[1].tobytes()


GENERATOR = np.random.default_rng(0)
GRAY16 = png(GENERATOR.integers(0, 4096, (6, 7), np.uint16))
LABELS = png(GENERATOR.integers(0, 5, (6, 7), np.uint8))
COLORS = png(GENERATOR.integers(0, 3, (6, 7, 3), np.uint8))
LOADERS = {
    'LoadImageWindow': (dict(low=0, high=4096), 'img_path', GRAY16),
    'LoadSegAnnotations16': (dict(), 'seg_map_path', LABELS),
    'LoadADE20KParts': (dict(), 'seg_map_path', COLORS),
    'LoadPanopticSegments': (dict(), 'seg_map_path', COLORS),
}


@pytest.mark.parametrize('name', LOADERS)
@FAST
@given(data=st.data())
def test_loaders_read_a_damaged_file_or_name_it(name, data, tmp_path):
    options, key, content = LOADERS[name]
    file = tmp_path / 'a_seg.png'
    file.write_bytes(data.draw(changed(content) | st.binary(max_size=40)))
    results = {key: str(file), 'seg_fields': [], 'segments_info': []}
    loader = TRANSFORMS.build(dict(type=f'hyper_mm.{name}', **options))
    found = reads(lambda: loader(results), 'a_seg.png')
    if found is not None:
        loaded = found['img' if key == 'img_path' else 'gt_seg_map']
        assert loaded.ndim >= 2 and np.isfinite(loaded).all()


@FAST
@given(data=st.data())
def test_panoptic_json(data, tmp_path):
    init_default_scope('mmdet')
    write_panoptic(tmp_path)
    config = dataset(tmp_path, [])
    file = tmp_path / config['ann_file']
    content = json.loads(file.read_text())
    file.write_bytes(data.draw(damaged(content)))
    found = reads(lambda: DATASETS.build(copy.deepcopy(config)), file.name)
    assert found is None or len(found) >= 0


# transforms


@st.composite
def images(draw, channels=(1, 3)) -> np.ndarray:
    """Images of any size from one pixel, of 8 bits or float."""
    shape = *draw(st.tuples(*[st.integers(1, 12)] * 2)), draw(st.sampled_from(channels))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, shape)
    if draw(st.booleans()):
        values = values * 0 + draw(st.sampled_from([0, 255, 7]))
    return values.astype(draw(st.sampled_from([np.uint8, np.float32])))


@FAST
@given(image=images(), seed=st.integers(0, 99))
def test_random_style_of_any_image(image, seed):
    np.random.seed(seed)
    style = dict(prob=1.0, invert=True, shuffle=True, stains=0.3, noise=5.0)
    transform = TRANSFORMS.build(dict(type='hyper_mm.RandomStyle', **style))
    found = transform(dict(img=image.copy()))['img']
    assert found.shape == image.shape and found.dtype == image.dtype
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 255


@FAST
@given(data=st.data(), shape=st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_boundary_bands_of_any_labels(data, shape):
    kind = data.draw(st.sampled_from([np.uint8, np.uint16, np.int64]))
    labels = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 256, shape)
    transform = TRANSFORMS.build(dict(type='hyper_mm.GenerateBoundaryBands', num_classes=4))
    try:
        found = transform(dict(gt_seg_map=labels.astype(kind)))
    except ValueError as error:
        assert 'label' in str(error)
        return
    for name in ('gt_boundary', 'gt_background'):
        assert found[name].shape == (3, *shape) and set(np.unique(found[name])) <= {0, 1}


@FAST
@given(image=images((3,)))
def test_amplitudes_of_any_image(image, tmp_path):
    bank = tmp_path / 'bank.npz'
    if not bank.exists():
        amplitude = np.random.default_rng(0).random((2, 3, 9, 9)).astype(np.float32)
        np.savez(bank, amplitude=amplitude, domain=np.array(['a', 'b']))
    config = dict(type='hyper_mm.FrequencyAmplitudeMix', bank=str(bank), band=0.1)
    found = TRANSFORMS.build(config)(dict(img=image.copy(), domain='a'))
    assert found['img_mix'].shape == image.shape and np.isfinite(found['img_mix']).all()
    np.testing.assert_array_equal(found['img'], image)
    found['gt_seg_map'] = np.zeros(image.shape[:2], np.uint8)
    found['img_shape'] = found['ori_shape'] = image.shape[:2]
    packed = TRANSFORMS.build(dict(type='hyper_mm.PackEpisodicSegInputs'))(found)
    assert packed['support']['inputs'].shape == packed['query']['inputs'].shape


@FAST
@given(image=images())
def test_monai_on_any_image(image):
    pytest.importorskip('monai')
    labels = (image[..., 0] > 100).astype(np.uint8)
    transform = TRANSFORMS.build(
        dict(
            type='hyper_mm.MonaiTransform',
            name='RandAffined',
            keys=['img', 'gt_seg_map'],
            mode=['bilinear', 'nearest'],
            prob=1.0,
            rotate_range=0.3,
        )
    )
    found = transform(dict(img=image.copy(), gt_seg_map=labels))
    assert found['img'].dtype == image.dtype and np.isfinite(found['img']).all()
    assert found['gt_seg_map'].shape == labels.shape
    assert set(np.unique(found['gt_seg_map'])) <= {0, 1}
