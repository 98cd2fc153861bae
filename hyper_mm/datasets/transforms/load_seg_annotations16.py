"""Label maps with more than 255 classes."""

from __future__ import annotations

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.fileio import get

from hyper_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadSegAnnotations16(BaseTransform):
    """Loads the label map of an image as 16-bit numbers; in place of mmseg's ``LoadAnnotations``.

    That casts labels to 8 bits. All later transforms of mmseg take 16.

    Required keys: ``seg_map_path``, ``label_map``, ``seg_fields``. Added: ``gt_seg_map``, uint16
    ``(H, W)``. Without ``seg_map_path``, as in inference, nothing is added.

    Args:
        backend_args: Backend of the files.
    """

    loads_labels = True

    def __init__(self, backend_args: dict | None = None):
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Loads.

        Args:
            results: Of an image.

        Returns:
            The same, with its label map.

        Raises:
            ValueError: If the file is no label map of integers from 0 to 65535, or the data set
                wants label 0 reduced.
        """
        path = results.get('seg_map_path')
        if path is None:
            return results
        if results.get('reduce_zero_label'):
            raise ValueError('LoadSegAnnotations16 needs reduce_zero_label=False in the data set')
        content = get(path, backend_args=self.backend_args)
        labels = mmcv.imfrombytes(content, flag='unchanged', backend='cv2') if content else None
        if labels is None or labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
            found = 'no image' if labels is None else f'{labels.shape}, {labels.dtype}'
            raise ValueError(f'{path} must be a label map (H, W) of 8 or 16 bits, got {found}')
        labels = labels.astype(np.uint16)
        if results.get('label_map') is not None:
            renamed = labels.copy()
            for old, new in results['label_map'].items():
                renamed[labels == old] = new
            labels = renamed
        results['gt_seg_map'] = labels
        results['seg_fields'].append('gt_seg_map')
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(backend_args={self.backend_args})'
