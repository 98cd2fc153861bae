"""COCO's panoptic format: some of the classes, and pngs that are compared with their json."""

from __future__ import annotations

from collections.abc import Sequence

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets import CocoPanopticDataset
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.fileio import get

from hyper_mm.registry import DATASETS, TRANSFORMS

VOID = 255


def segment_ids(image: np.ndarray) -> np.ndarray:
    """Segment of each pixel of a panoptic png: red + 256 green + 65536 blue.

    Args:
        image: ``(H, W, 3)``, uint8, red first.

    Returns:
        ``(H, W)``, int64.
    """
    return image.astype(np.int64) @ np.array([1, 256, 65536])


@DATASETS.register_module()
class OpenVocabPanopticDataset(CocoPanopticDataset):
    """mmdet's ``CocoPanopticDataset`` of which some classes are left out.

    Args:
        *args: Arguments of mmdet's class.
        unseen: Names of the classes to leave out: their pixels are of no class. The order of the
            others stays.
        metainfo: See mmdet's class; ``unseen`` are names of its classes.
        **kwargs: Arguments of mmdet's class.

    Raises:
        ValueError: If ``unseen`` are no classes.
    """

    def __init__(
        self, *args, unseen: Sequence[str] = (), metainfo: dict | None = None, **kwargs
    ) -> None:
        meta = {**self.METAINFO, **(metainfo or {})}
        unknown = sorted(set(unseen) - set(meta['classes']))
        if unknown:
            raise ValueError(f'unseen must be classes of the data set, got {unknown}')
        if unseen:
            kept = [name not in unseen for name in meta['classes']]
            for key in ('classes', 'palette'):
                if len(meta.get(key) or ()) == len(kept):
                    meta[key] = tuple(value for value, keep in zip(meta[key], kept) if keep)
            for key in ('thing_classes', 'stuff_classes'):
                meta[key] = tuple(name for name in meta.get(key, ()) if name not in unseen)
        super().__init__(*args, metainfo=meta, **kwargs)

    def load_data_list(self) -> list[dict]:
        """See mmdet's class.

        Raises:
            ValueError: If the annotations are not of COCO's panoptic format, with their file.
        """
        try:
            found = super().load_data_list()
        except FileNotFoundError:
            raise
        except Exception as error:  # whatever a missing or wrong entry leads to
            raise ValueError(
                f"{self.ann_file} is not in COCO's panoptic format: {type(error).__name__}: {error}"
            ) from error
        if not found:
            raise ValueError(f'{self.ann_file} lists no images')
        return found

    def filter_data(self) -> list[dict]:
        """See mmdet's class.

        Raises:
            ValueError: If no image is left, with the file of the annotations.
        """
        found = super().filter_data()
        if not found:
            raise ValueError(f'{self.ann_file}: no image is left by filter_cfg={self.filter_cfg}')
        return found

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """See mmdet's class; adds ``segment_ids``, those of the json, and ``iscrowd``."""
        own = raw_data_info['raw_img_info']['img_id']
        segments = [s for s in raw_data_info['raw_ann_info'] if s['image_id'] == own]
        kept = [s for s in segments if s['category_id'] in self.cat2label]
        info = super().parse_data_info(dict(raw_data_info, raw_ann_info=kept))
        info['segment_ids'] = [segment['id'] for segment in segments]
        crowds = {segment['id'] for segment in kept if segment.get('iscrowd')}
        for segment in info['segments_info']:
            segment['iscrowd'] = segment['id'] in crowds
        return info


@TRANSFORMS.register_module()
class LoadPanopticSegments(BaseTransform):
    """Loads the boxes, masks and classes of the segments of an image.

    It stands for mmdet's ``LoadPanopticAnnotations``, without ``panopticapi``, and compares the png
    with its json. Crowds are of their class in the label map, but no instances.

    Adds ``gt_bboxes``, ``gt_bboxes_labels``, ``gt_ignore_flags``, ``gt_masks`` (instances of
    things) and ``gt_seg_map`` (classes; 255 where there is none).

    Raises:
        ValueError: In use, if the png is no image, has another size than the image, lacks a segment
            of the json, or has one that the json (of :class:`OpenVocabPanopticDataset`) does not
            know, or there are too many classes for a label map of 8 bits.
    """

    def transform(self, results: dict) -> dict:
        """Adds the annotations of ``seg_map_path`` and ``segments_info``; without a path, none."""
        path = results.get('seg_map_path')
        if path is None:
            return results
        content = get(path)
        png = mmcv.imfrombytes(content, flag='color') if content else None  # blue first
        if png is None:
            raise ValueError(f'{path} must be an image, whose colors number the segments')
        found = segment_ids(png[..., ::-1])
        size = tuple(results['img'].shape[:2]) if 'img' in results else found.shape
        if found.shape != tuple(results.get('ori_shape', size)[:2]):
            raise ValueError(
                f'{path}: the png must have the size {tuple(results["ori_shape"][:2])} of the '
                f'image, got {found.shape}'
            )
        segments = results['segments_info']
        there = set(np.unique(found).tolist())
        missing = [s['id'] for s in segments if s['id'] not in there]
        known = results.get('segment_ids')
        extra = sorted(there - {0} - set(known)) if known is not None else []
        if missing or extra:
            raise ValueError(
                f'{path}: the png does not fit its json: segments {missing} of the json are not in '
                f'the png, {extra} of the png not in the json'
            )
        self._add(results, found, segments)
        return results

    def _add(self, results: dict, found: np.ndarray, segments: Sequence[dict]) -> None:
        labels = np.full(found.shape, VOID, np.int64)
        boxes, classes, masks = [], [], []
        for segment in segments:
            mask = found == segment['id']
            if segment['category'] >= VOID:
                raise ValueError(
                    f'labels must be below {VOID}, which stands for no class, got '
                    f'{segment["category"]}'
                )
            labels[mask] = segment['category']
            if segment['is_thing']:
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
                classes.append(segment['category'])
                masks.append(mask.astype(np.uint8))
        height, width = found.shape
        results['gt_bboxes'] = HorizontalBoxes(np.array(boxes, np.float32).reshape(-1, 4))
        results['gt_bboxes_labels'] = np.array(classes, np.int64)
        results['gt_ignore_flags'] = np.zeros(len(boxes), bool)
        results['gt_masks'] = BitmapMasks(masks, height, width)
        results['gt_seg_map'] = labels.astype(np.uint8)
