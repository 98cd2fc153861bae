"""PartScenes for semantic segmentation, of parts or of wholes."""

from __future__ import annotations

from mmseg.datasets import BaseSegDataset

from hyper_mm.registry import DATASETS

from .part_scenes.taxonomy import PART_CLASSES, PART_PALETTE, WHOLE_CLASSES, WHOLE_PALETTE


@DATASETS.register_module()
class PartScenesDataset(BaseSegDataset):
    """Parts of PartScenes, in the ADE20K layout that its generator writes.

    Use `data_prefix=dict(img_path='images/training', seg_map_path='annotations/training')`.

    Args:
        img_suffix: Suffix of the images.
        seg_map_suffix: Suffix of the label maps.
        reduce_zero_label: Whether 0 is void and classes start at 1, as they do on disk.
        **kwargs: Passed to `mmseg.datasets.BaseSegDataset`.
    """

    METAINFO = dict(classes=PART_CLASSES, palette=[list(colour) for colour in PART_PALETTE])

    def __init__(
        self,
        img_suffix: str = '.jpg',
        seg_map_suffix: str = '.png',
        reduce_zero_label: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            reduce_zero_label=reduce_zero_label,
            **kwargs,
        )


@DATASETS.register_module()
class PartScenesWholesDataset(PartScenesDataset):
    """Wholes of PartScenes: as the parts, with `seg_map_path='annotations_wholes/...'`."""

    METAINFO = dict(classes=WHOLE_CLASSES, palette=[list(colour) for colour in WHOLE_PALETTE])
