"""Radial Embeddings (ECCV 2024): entailment of texts by radius, in three geometries."""

from .radial import EntailmentConeLoss, RadialEmbeddingLoss

__all__ = ['EntailmentConeLoss', 'RadialEmbeddingLoss']
