"""Drawn scenes in COCO's panoptic format."""

import json

import mmcv
import numpy as np

from tests.helpers.open_vocab_det import STUFF, THINGS, draw_shape

CLASSES = [*THINGS, *STUFF]


def write_panoptic(folder, images=3, size=(64, 80)):
    """Shapes on grass under a sky; in the first image the second shape is a crowd."""
    generator = np.random.default_rng(0)
    categories = [
        dict(id=k + 1, name=name, isthing=int(name in THINGS)) for k, name in enumerate(CLASSES)
    ]
    found = dict(images=[], annotations=[], categories=categories)
    for index in range(images):
        image = np.zeros((*size, 3), np.uint8)
        image[: size[0] // 2], image[size[0] // 2 :] = (230, 180, 120), (60, 140, 60)
        ids = np.full(size, 5000 + index)
        ids[size[0] // 2 :] = 70000 + index
        segments = [(5000 + index, 'sky'), (70000 + index, 'grass')]
        for k, name in enumerate(THINGS):
            where = draw_shape(image, name, 4 + 25 * k, int(generator.integers(4, 38)), 20)
            ids[where] = 100 + k
            segments.append((100 + k, name))
        info = []
        for number, name in segments:
            rows, columns = np.nonzero(ids == number)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            info.append(
                dict(
                    id=number, category_id=CLASSES.index(name) + 1, area=len(rows),
                    bbox=[int(x) for x in box], iscrowd=int(index == 0 and name == THINGS[1]),
                )
            )  # fmt: skip
        png = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
        mmcv.imwrite(image, str(folder / 'images' / f'{index}.jpg'))
        mmcv.imwrite(png[..., ::-1], str(folder / 'pngs' / f'{index}.png'))
        shape = dict(height=size[0], width=size[1])
        found['images'].append(dict(id=index, file_name=f'{index}.jpg', **shape))
        found['annotations'].append(
            dict(image_id=index, file_name=f'{index}.png', segments_info=info)
        )
    (folder / 'panoptic.json').write_text(json.dumps(found))
    return folder


def dataset(folder, pipeline=(), **options):
    """Config of the set."""
    return dict(
        type='hyper_mm.OpenVocabPanopticDataset',
        data_root=str(folder),
        ann_file='panoptic.json',
        data_prefix=dict(img='images/', seg='pngs/'),
        metainfo=dict(
            classes=tuple(CLASSES), thing_classes=tuple(THINGS), stuff_classes=tuple(STUFF)
        ),
        pipeline=list(pipeline),
        **options,
    )
