"""The losses of radial embeddings for configs."""

from __future__ import annotations

from hyper_mm.layers.radial import radial
from hyper_mm.registry import MODELS


@MODELS.register_module()
class RadialEmbeddingLoss(radial.RadialEmbeddingLoss):
    """:class:`hyper_mm.layers.RadialEmbeddingLoss`, by config."""


@MODELS.register_module()
class EntailmentConeLoss(radial.EntailmentConeLoss):
    """:class:`hyper_mm.layers.EntailmentConeLoss`, by config."""
