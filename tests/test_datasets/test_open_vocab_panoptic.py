import json

import mmcv
import numpy as np
import pytest

pytest.importorskip('mmdet')

from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope  # noqa: E402

from hyper_mm.datasets.open_vocab_panoptic import segment_ids  # noqa: E402
from tests.helpers.open_vocab_pan import CLASSES, dataset, write_panoptic  # noqa: E402

LOAD = [dict(type='LoadImageFromFile'), dict(type='hyper_mm.LoadPanopticSegments')]


@pytest.fixture
def folder(tmp_path):
    init_default_scope('mmdet')
    return write_panoptic(tmp_path)


def build(folder, **options):
    return DATASETS.build(dataset(folder, LOAD, **options))


def test_colors_are_numbers():
    image = np.array([[[1, 0, 0], [0, 1, 0], [255, 255, 255]]], np.uint8)
    assert segment_ids(image).tolist() == [[1, 256, 2**24 - 1]]


def test_labels_masks_and_boxes(folder):
    found = build(folder)
    assert found.metainfo['classes'] == tuple(CLASSES)
    item = found[1]
    ids = segment_ids(mmcv.imread(item['seg_map_path'], 'color', 'rgb'))
    for segment in item['segments_info']:
        assert (item['gt_seg_map'][ids == segment['id']] == segment['category']).all()
    assert item['gt_bboxes_labels'].tolist() == [0, 1, 2]
    for k, mask in enumerate(item['gt_masks'].masks):
        assert np.array_equal(mask, ids == 100 + k)
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert item['gt_bboxes'].tensor[k].tolist() == box


def test_crowds_are_labeled_but_no_instances(folder):
    item = build(folder)[0]
    assert item['gt_bboxes_labels'].tolist() == [0, 2]
    assert (item['gt_seg_map'] == 1).any()
    assert [s['iscrowd'] for s in item['segments_info']].count(True) == 1


def test_classes_left_out_are_of_no_class(folder):
    found = build(folder, unseen=['cross', 'sky'])
    assert found.metainfo['classes'] == ('square', 'disk', 'grass')
    assert found.metainfo['stuff_classes'] == ('grass',)
    item = found[1]
    assert set(np.unique(item['gt_seg_map'])) == {0, 1, 2, 255}
    assert item['gt_bboxes_labels'].tolist() == [0, 1]
    with pytest.raises(ValueError, match='moon'):
        build(folder, unseen=['moon'])


def test_a_part_of_the_images(folder):
    assert len(build(folder, indices=[2])) == 1
    assert build(folder, indices=[2])[0]['img_id'] == 2


def test_pngs_that_do_not_fit(folder):
    png = folder / 'pngs' / '1.png'
    image = mmcv.imread(str(png))
    mmcv.imwrite(image[:, :-1], str(png))
    with pytest.raises(ValueError, match='size'):
        build(folder)[1]
    changed = image.copy()
    changed[(image == image[0, 0]).all(-1)] = 77
    mmcv.imwrite(changed, str(png))
    with pytest.raises(ValueError, match=r'\[5001\].*not in the png.*\[5066061\]'):
        build(folder)[1]


def test_image_without_segments(folder):
    path = folder / 'panoptic.json'
    found = json.loads(path.read_text())
    found['annotations'][1]['segments_info'] = []
    path.write_text(json.dumps(found))
    mmcv.imwrite(np.zeros((64, 80, 3), np.uint8), str(folder / 'pngs' / '1.png'))
    item = build(folder, test_mode=True)[1]
    assert len(item['gt_bboxes']) == len(item['gt_masks']) == 0
    assert (item['gt_seg_map'] == 255).all()


def test_images_without_annotations_pass():
    load = TRANSFORMS.build(LOAD[1])
    assert load(dict(seg_map_path=None)) == dict(seg_map_path=None)
    assert load(dict()) == dict()
