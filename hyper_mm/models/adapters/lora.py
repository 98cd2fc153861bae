"""LoRA and fine-tuning for configs, for comparison with HyperCLIP's adapter."""

from __future__ import annotations

from hyper_mm.layers.hyperclip import weight_updates
from hyper_mm.registry import MODELS


@MODELS.register_module()
class LoRAAdapter(weight_updates.LoRAAdapter):
    """:class:`hyper_mm.layers.LoRAAdapter`, by config.

    Example:
        >>> adapter = dict(type='hyper_mm.LoRAAdapter', rank=8)
        >>> model = dict(type='hyper_mm.OpenVocabSegmentor', adapter=adapter, ...)
    """


@MODELS.register_module()
class TrainedPartsAdapter(weight_updates.TrainedPartsAdapter):
    """:class:`hyper_mm.layers.TrainedPartsAdapter`, by config."""


@MODELS.register_module()
class FullTuning(weight_updates.FullTuning):
    """:class:`hyper_mm.layers.FullTuning`, by config."""
