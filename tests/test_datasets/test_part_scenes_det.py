import json

import pytest

pytest.importorskip('mmdet')

from mmengine.registry import DATASETS, init_default_scope  # noqa: E402

from hyper_mm.datasets.part_scenes import generate  # noqa: E402

pytestmark = pytest.mark.mmdet


def test_reads_what_the_generator_writes(tmp_path):
    root = generate(tmp_path, ['coco'], 6, 2, (64, 64), progress=False)['coco']
    init_default_scope('mmdet')
    dataset = DATASETS.build(
        dict(
            type='hyper_mm.PartScenesDetDataset',
            data_root=str(root),
            ann_file='annotations/instances_train.json',
            data_prefix=dict(img='train/'),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            ],
        )
    )
    truth = json.loads((root / 'annotations' / 'instances_train.json').read_text())
    assert len(dataset) == 6
    names = {c['id']: c['name'] for c in truth['categories']}
    found = []
    for item in dataset:
        assert item['gt_masks'].masks.shape == (len(item['gt_bboxes']), 64, 64)
        found += [dataset.metainfo['classes'][i] for i in item['gt_bboxes_labels']]
    assert sorted(found) == sorted(names[a['category_id']] for a in truth['annotations'])
    assert len(dataset.metainfo['classes']) == len(dataset.metainfo['palette'])
