import json

import pytest

pytest.importorskip('mmdet')

from mmengine.registry import DATASETS, init_default_scope  # noqa: E402

pytestmark = pytest.mark.mmdet


def build(root, split):
    init_default_scope('mmdet')
    return DATASETS.build(
        dict(
            type='hyper_mm.BCCDDataset',
            data_root=str(root),
            ann_file=f'annotations/instances_{split}.json',
            data_prefix=dict(img=f'{split}/'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)],
        )
    )


@pytest.mark.parametrize('split, images', [('train', 205), ('val', 87)])
def test_reads_every_image_and_box(data_dir, split, images):
    dataset = build(data_dir / 'bccd', split)
    assert len(dataset) == images
    truth = json.loads((data_dir / 'bccd' / 'annotations' / f'instances_{split}.json').read_text())
    names = [c['name'] for c in truth['categories']]
    assert dataset.metainfo['classes'] == tuple(names)
    boxes = sum(len(dataset.get_data_info(i)['instances']) for i in range(images))
    assert boxes == len(truth['annotations'])
    item = dataset[0]
    assert item['img'].shape[:2] == item['img_shape'] == (240, 320)
    assert len(item['gt_bboxes']) == len(item['gt_bboxes_labels']) > 0


def test_colors_fit_the_classes():
    from hyper_mm.datasets import BCCDDataset

    assert len(BCCDDataset.METAINFO['classes']) == len(BCCDDataset.METAINFO['palette'])
