"""Transforms of MONAI in pipelines of OpenMMLab."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform

from hyper_mm.near_misses import suggestion
from hyper_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class MonaiTransform(BaseTransform):
    """Runs a dictionary transform of MONAI (its name ends with ``d``) on image and labels.

    For example ``dict(type='hyper_mm.MonaiTransform', name='RandBiasFieldd', keys=['img'],
    prob=0.5)``, or for both ``dict(type='hyper_mm.MonaiTransform', name='RandAffined', keys=['img',
    'gt_seg_map'], mode=['bilinear', 'nearest'], prob=1.0, rotate_range=0.3)``. Random transforms
    follow the seed of numpy, which mmengine sets in each worker.

    Required keys: those of ``keys``: ``img`` ``(H, W, C)``, and ``gt_seg_map`` ``(H, W)`` where
    labels move with the image. MONAI sees channels first, float32; labels come back as integers.

    Args:
        name: Name in ``monai.transforms``.
        keys: Of the results.
        **options: Of the transform.

    Raises:
        ValueError: If MONAI has no such dictionary transform.
    """

    def __init__(self, name: str, keys: list[str] | tuple[str, ...] = ('img',), **options):
        from monai import transforms
        from monai.transforms.transform import MapTransform

        kind = getattr(transforms, name, None)
        if not isinstance(kind, type) or not issubclass(kind, MapTransform):
            known = [n for n in dir(transforms) if n.endswith('d') and n[0].isupper()]
            raise ValueError(
                f'name must be a dictionary transform of monai.transforms, such as RandAffined, '
                f'got {name!r}{suggestion(name, known)}'
            )
        self.name, self.keys, self.options = name, list(keys), options
        self.inner = kind(keys=self.keys, **options)

    def transform(self, results: dict) -> dict:
        """Runs it; see the class.

        Args:
            results: Of an image.

        Returns:
            The same, changed.
        """
        data = {}
        for key in self.keys:
            value = np.asarray(results[key], np.float32)
            data[key] = value.transpose(2, 0, 1) if value.ndim == 3 else value[None]
        if hasattr(self.inner, 'set_random_state'):
            self.inner.set_random_state(seed=np.random.randint(2**31))
        found = self.inner(data)
        for key in self.keys:
            old, value = results[key], np.asarray(found[key])
            value = value.transpose(1, 2, 0) if old.ndim == 3 else value[0]
            if old.dtype.kind in 'iu':
                limit = np.iinfo(old.dtype)
                value = np.rint(value).clip(limit.min, limit.max)
            results[key] = np.ascontiguousarray(value.astype(old.dtype))
        if 'img' in self.keys:
            results['img_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(name={self.name!r}, keys={self.keys}, {self.options})'
