"""Boundary contrast (FedDG), prototypes, and meta-learning by gradients (MAML, Reptile)."""

from .batch_dice import BatchDice
from .boundary_contrast import Bands, BoundaryInfoNCE, boundary_bands
from .conv_blocks import ConvBlocks
from .prototypes import PrototypeClassifier
from .task_contrast import TaskContrast

__all__ = [
    'Bands',
    'BatchDice',
    'BoundaryInfoNCE',
    'ConvBlocks',
    'PrototypeClassifier',
    'TaskContrast',
    'boundary_bands',
]
