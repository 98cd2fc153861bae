"""BCCD: blood cells with boxes."""

from __future__ import annotations

from mmdet.datasets import CocoDataset

from hyper_mm.registry import DATASETS


@DATASETS.register_module()
class BCCDDataset(CocoDataset):
    """Blood cells (BCCD, MIT license) with boxes, in the COCO layout."""

    METAINFO = dict(
        classes=('RBC', 'WBC', 'Platelets'),
        palette=[(220, 20, 60), (70, 90, 220), (250, 190, 40)],
    )
