"""Boundary contrast (FedDG), prototypes, and meta-learning by gradients (MAML, Reptile)."""

from .batch_dice import BatchDice
from .boundary_contrast import Bands, BoundaryInfoNCE, boundary_bands
from .prototypes import PrototypeClassifier

__all__ = ['Bands', 'BatchDice', 'BoundaryInfoNCE', 'PrototypeClassifier', 'boundary_bands']
