"""Trees of labels and the losses that know them."""

from .losses import LevelLoss, PathLogits, TreeMinLoss, TreeSoftmax, TreeTripletLoss
from .tree import Taxonomy

__all__ = ['LevelLoss', 'PathLogits', 'Taxonomy', 'TreeMinLoss', 'TreeSoftmax', 'TreeTripletLoss']
