"""HyperCLIP's adapter for configs."""

from __future__ import annotations

from hyper_mm.layers.hyperclip import adapter as hyperclip
from hyper_mm.registry import MODELS


@MODELS.register_module()
class HyperCLIPAdapter(hyperclip.HyperCLIPAdapter):
    """:class:`hyper_mm.layers.HyperCLIPAdapter`, by config.

    Example:
        >>> adapter = dict(type='hyper_mm.HyperCLIPAdapter', block_size=128, curvature=0.01)
        >>> model = dict(type='hyper_mm.OpenVocabSegmentor', adapter=adapter, ...)
    """
