import numpy as np
import pytest
from mmcv.image import imwrite

pytestmark = pytest.mark.mmseg
pytest.importorskip('mmseg')

from hyper_mm.datasets.ade20k_parts import (  # noqa: E402
    BASE,
    ADE20KPartsDataset,
    LoadADE20KParts,
    decode_ids,
)


def write_ids(path, ids):
    red = ids // 256 * 10
    imwrite(np.stack([np.zeros_like(ids), ids % 256, red], -1).astype(np.uint8), str(path))


@pytest.fixture
def scene(tmp_path):
    objects = np.array([[0, 700, 700], [3, 3, 700]])
    parts = np.array([[9, 0, 3000], [0, 0, 3000]])
    tmp_path = tmp_path / 'street'
    tmp_path.mkdir()
    imwrite(np.zeros((2, 3, 3), np.uint8), str(tmp_path / 'a.jpg'))
    write_ids(tmp_path / 'a_seg.png', objects)
    write_ids(tmp_path / 'a_parts_1.png', parts)
    return tmp_path


def test_ids_survive_the_colors(scene):
    assert decode_ids(scene / 'a_parts_1.png').tolist() == [[9, 0, 3000], [0, 0, 3000]]


def test_labels_name_object_and_part(scene):
    results = LoadADE20KParts().transform(dict(seg_map_path=str(scene / 'a_seg.png')))
    whole, stuff = 700 * BASE, 3 * BASE
    expected = [[255, whole, whole + 3000], [stuff, stuff, whole + 3000]]
    assert results['gt_seg_map'].tolist() == expected
    assert results['seg_fields'] == ['gt_seg_map']


def test_the_rest_of_an_object_can_be_left_out(scene):
    transform = LoadADE20KParts(rest='ignore')
    labels = transform.transform(dict(seg_map_path=str(scene / 'a_seg.png')))['gt_seg_map']
    assert labels[0].tolist() == [255, 255, 700 * BASE + 3000]
    assert labels[1, 0] == 3 * BASE


@pytest.mark.parametrize('rest, ignored', [('part', 1), ('ignore', 2)])
def test_ignore_index_marks_what_is_left_out(scene, rest, ignored):
    paths = dict(seg_map_path=str(scene / 'a_seg.png'))
    plain = LoadADE20KParts(rest).transform(dict(paths))['gt_seg_map']
    labels = LoadADE20KParts(rest, ignore_index=65535).transform(dict(paths))['gt_seg_map']
    assert (labels == 65535).sum() == ignored
    assert labels.tolist() == np.where(plain == 255, 65535, plain).tolist()


def test_an_image_without_parts(scene):
    (scene / 'a_parts_1.png').unlink()
    labels = LoadADE20KParts().transform(dict(seg_map_path=str(scene / 'a_seg.png')))['gt_seg_map']
    assert labels[1, 2] == 700 * BASE


def test_bad_input(scene):
    with pytest.raises(ValueError, match='rest must be'):
        LoadADE20KParts(rest='all')
    write_ids(scene / 'a_parts_1.png', np.zeros((4, 4), int))
    with pytest.raises(ValueError, match='of size'):
        LoadADE20KParts().transform(dict(seg_map_path=str(scene / 'a_seg.png')))
    (scene / 'a_seg.png').rename(scene / 'a.png')  # whose parts would be the objects again
    with pytest.raises(ValueError, match=r"seg_map_path must end with '_seg.png', got .*a\.png"):
        LoadADE20KParts().transform(dict(seg_map_path=str(scene / 'a.png')))


def test_without_labels_and_with_those_of_other_data_sets(scene):
    assert LoadADE20KParts().transform(dict(img_path='x')) == dict(img_path='x')
    path = str(scene / 'a_seg.png')
    for wrong in (dict(reduce_zero_label=True), dict(label_map={0: 1})):
        with pytest.raises(ValueError, match='reduce_zero_label=False and without other classes'):
            LoadADE20KParts().transform(dict(seg_map_path=path, **wrong))
    (scene / 'a_seg.png').write_bytes(b'none')
    with pytest.raises(ValueError, match='a_seg.png must be an image'):
        LoadADE20KParts().transform(dict(seg_map_path=path))


def test_dataset_pairs_images_with_their_labels(scene):
    folder = dict(img_path='street', seg_map_path='street')
    data = ADE20KPartsDataset(
        data_root=str(scene.parent), data_prefix=folder, pipeline=[LoadADE20KParts()]
    )
    assert len(data) == 1
    assert data[0]['gt_seg_map'].shape == (2, 3)


def test_real_images(data_dir):
    root = data_dir / 'ade20k_full_sample' / 'ADE20K_2021_17_01'
    if not root.is_dir():
        pytest.skip('no ade20k_full_sample')
    folder = 'images/ADE/training'
    data = ADE20KPartsDataset(
        data_root=str(root),
        data_prefix=dict(img_path=folder, seg_map_path=folder),
        pipeline=[LoadADE20KParts()],
    )
    assert len(data) > 0
    labels = data[0]['gt_seg_map']
    known = labels[labels != 255]
    assert known.size > labels.size / 2
    assert (known >= BASE).all() and (known % BASE > 0).any()
