"""PartScenes as COCO instances."""

from __future__ import annotations

from mmdet.datasets import CocoDataset

from hyper_mm.registry import DATASETS

from .part_scenes.taxonomy import THING_CLASSES, WHOLE_CLASSES, WHOLE_PALETTE


@DATASETS.register_module()
class PartScenesDetDataset(CocoDataset):
    """The things of PartScenes (people, cars, houses, ...), with boxes and masks."""

    METAINFO = dict(
        classes=tuple(THING_CLASSES),
        palette=[
            tuple(color)
            for name, color in zip(WHOLE_CLASSES, WHOLE_PALETTE)
            if name in THING_CLASSES
        ],
    )
