"""Images with the appearance of another device."""

from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from hyper_mm.datasets.styles import StyleSampler, with_style
from hyper_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomStyle(BaseTransform):
    """Draws a style for each image: inversion, channel order, gamma, range, stains, blur, noise.

    Episodes need one style for support and query alike, or there is nothing to adapt to: there use
    ``style=dict(...)`` of :class:`hyper_mm.EpisodeDataset`, with the same options.

    Required key: ``img`` ``(H, W, C)``, 0 to 255, which is replaced and keeps its dtype.

    Args:
        **options: Of :class:`hyper_mm.datasets.styles.StyleSampler`: ``prob``, ``invert``,
            ``shuffle``, ``gamma``, ``contrast``, ``stains``, ``blur``, ``noise``.
    """

    def __init__(self, **options):
        self.sampler, self.options = StyleSampler(**options), options

    def transform(self, results: dict) -> dict:
        """Changes the image; see the class.

        Args:
            results: Of an image.

        Returns:
            The same, with another image.
        """
        image = torch.from_numpy(np.ascontiguousarray(results['img'])).movedim(-1, 0)
        # numpy's global state is what mmengine seeds in workers
        seed = np.random.randint(2**31)
        style = self.sampler.draw(np.random.default_rng(seed), len(image))
        found = with_style(image, style, (seed, 1))
        results['img'] = found.movedim(0, -1).contiguous().numpy()
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.options})'
