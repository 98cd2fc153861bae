"""Objects and their parts in the full ADE20K, whose label maps are coded in colors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mmcv.image import imfrombytes
from mmcv.transforms import BaseTransform
from mmengine.fileio import get

from hyper_mm.checks import check_choice
from hyper_mm.registry import DATASETS, TRANSFORMS

from .ade_layout import AdeLayoutDataset

BASE = 4096
"""Labels are ``BASE * object + part``."""


@DATASETS.register_module()
class ADE20KPartsDataset(AdeLayoutDataset):
    """Images of the full ADE20K (2021) with objects and parts, for :class:`LoadADE20KParts`.

    The data set keeps an image, its ``_seg.png`` and its ``_parts_1.png`` in one folder a scene:
    use ``data_prefix=dict(img_path='images/ADE/validation', seg_map_path='images/ADE/validation')``
    with the data set's folder ``ADE20K_2021_17_01`` as ``data_root``.

    Args:
        **kwargs: Passed to ``mmseg.datasets.BaseSegDataset``.

    Source: Zhou et al., Scene Parsing through ADE20K Dataset (CVPR 2017).
    """

    SOURCE = 'The full data set is offered, after registration, at groups.csail.mit.edu/vision.'
    METAINFO = dict()

    def __init__(self, **kwargs):
        settings = dict(img_suffix='.jpg', seg_map_suffix='_seg.png', reduce_zero_label=False)
        super().__init__(**{**settings, **kwargs})


@TRANSFORMS.register_module()
class LoadADE20KParts(BaseTransform):
    """Loads objects and parts of the full ADE20K into one label map.

    A pixel's label is ``4096 * object + part``, with the ids of the data set's index; so a part
    belongs to one whole, and window panes of houses and of buses are two. What an object has
    beyond its annotated parts is a part of its own, with part id 0. Pixels of no object are
    ``ignore_index``. Without ``seg_map_path``, as in inference, nothing is loaded.

    Args:
        rest: ``'part'`` as above, or ``'ignore'``: in an object of which parts are annotated in
            the image, pixels of no part are left out.
        ignore_index: Label of pixels of no object.

    Raises:
        ValueError: For an unknown ``rest``; in use, for label maps of different sizes or that are
            no images or are called otherwise, and data sets that reduce label 0 or rename labels.
        FileNotFoundError: If there is no map of objects.
    """

    loads_labels = True

    def __init__(self, rest: str = 'part', ignore_index: int = 255):
        check_choice(('part', 'ignore'), rest=rest)
        self.rest = rest
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Adds ``gt_seg_map`` ``(H, W)``.

        Args:
            results: Has ``seg_map_path``, the path of ``..._seg.png``. Without a
                ``..._parts_1.png`` beside it, no part is annotated.

        Returns:
            The same dict.
        """
        if results.get('seg_map_path') is None:
            return results
        if results.get('reduce_zero_label') or results.get('label_map') is not None:
            raise ValueError(
                'LoadADE20KParts needs a data set with reduce_zero_label=False and without other '
                'classes (its labels are 4096 * object + part, and pixels of no object ignored)'
            )
        path = Path(results['seg_map_path'])
        if not path.name.endswith('_seg.png'):  # its parts would be the map itself
            raise ValueError(f"seg_map_path must end with '_seg.png', got {path}")
        objects = decode_ids(path)
        beside = path.with_name(f'{path.name.removesuffix("_seg.png")}_parts_1.png')
        parts = decode_ids(beside) if beside.exists() else np.zeros_like(objects)
        if parts.shape != objects.shape:
            raise ValueError(f'{beside} is of size {parts.shape}, its objects of {objects.shape}')
        labels = BASE * objects + parts
        labels[objects == 0] = self.ignore_index
        if self.rest == 'ignore':
            labels[(parts == 0) & np.isin(objects, objects[parts > 0])] = self.ignore_index
        results['gt_seg_map'] = labels
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(rest={self.rest!r}, ignore_index={self.ignore_index})'


def decode_ids(path: str | Path) -> np.ndarray:
    """Reads a label map of ADE20K: the id is ``red // 10 * 256 + green``.

    Args:
        path: The PNG.

    Returns:
        Ids ``(H, W)``, int32; 0 = none.
    """
    content = get(str(path))
    image = imfrombytes(content, backend='cv2') if content else None
    if image is None:
        raise ValueError(f'{path} must be an image, whose colors number the labels')
    return image[..., 2].astype(np.int32) // 10 * 256 + image[..., 1]
