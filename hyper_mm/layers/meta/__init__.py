"""Boundary contrast, prototypes and gradient-based meta-learning (FedDG, MAML, Reptile, ProtoNet)."""

from .batch_dice import BatchDice
from .boundary_contrast import Bands, BoundaryInfoNCE, boundary_bands
from .prototypes import PrototypeClassifier

__all__ = ['Bands', 'BatchDice', 'BoundaryInfoNCE', 'PrototypeClassifier', 'boundary_bands']
