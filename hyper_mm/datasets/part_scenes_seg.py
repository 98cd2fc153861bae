"""PartScenes for semantic segmentation, of parts or of wholes."""

from __future__ import annotations

from hyper_mm.registry import DATASETS

from .ade_layout import AdeLayoutDataset
from .part_scenes.taxonomy import PART_CLASSES, PART_PALETTE, WHOLE_CLASSES, WHOLE_PALETTE


@DATASETS.register_module()
class PartScenesDataset(AdeLayoutDataset):
    """Parts of PartScenes, in the ADE20K layout that its generator writes."""

    SOURCE = 'tools/dataset_converters/part_scenes.py draws it.'
    METAINFO = dict(classes=PART_CLASSES, palette=[list(color) for color in PART_PALETTE])


@DATASETS.register_module()
class PartScenesWholesDataset(PartScenesDataset):
    """Wholes of PartScenes: as the parts, with `seg_map_path='annotations_wholes/...'`."""

    METAINFO = dict(classes=WHOLE_CLASSES, palette=[list(color) for color in WHOLE_PALETTE])
