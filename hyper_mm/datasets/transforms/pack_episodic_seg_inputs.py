"""Packing an image and its likeness in another style as an episode."""

from __future__ import annotations

from mmcv.transforms import BaseTransform
from mmseg.datasets.transforms import PackSegInputs

from hyper_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackEpisodicSegInputs(BaseTransform):
    """Packs ``dict(support=..., query=...)`` for :class:`hyper_mm.EpisodicSegmentor`.

    Required keys: ``img``, that of the second image, and ``gt_seg_map``, which serves both.

    Args:
        key: Key of the second image, of ``hyper_mm.FrequencyAmplitudeMix``.
        **kwargs: Of mmseg's ``PackSegInputs``.
    """

    def __init__(self, key: str = 'img_mix', **kwargs):
        self.key, self.pack = key, PackSegInputs(**kwargs)

    def transform(self, results: dict) -> dict:
        """Packs.

        Args:
            results: Of an image.

        Returns:
            Both packed.

        Raises:
            KeyError: If the second image is missing.
        """
        if self.key not in results:
            raise KeyError(f'{self.key!r} is missing: put FrequencyAmplitudeMix before this')
        mixed = dict(results, img=results[self.key])
        return dict(support=self.pack(dict(results)), query=self.pack(mixed))
