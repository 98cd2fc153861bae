"""CamVid with its usual eleven classes."""

from __future__ import annotations

from hyper_mm.registry import DATASETS

from .ade_layout import AdeLayoutDataset


@DATASETS.register_module()
class CamVidDataset(AdeLayoutDataset):
    """CamVid street scenes in the ADE20K layout: 0 = ignore, 1..11 the classes."""

    SOURCE = 'CamVid is that of the SegNet tutorial, its label maps shifted by one.'
    METAINFO = dict(
        classes=(
            'sky',
            'building',
            'pole',
            'road',
            'pavement',
            'tree',
            'sign',
            'fence',
            'car',
            'pedestrian',
            'bicyclist',
        ),
        palette=[
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [0, 0, 192],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    )
