"""Building blocks that several methods share: attention, dropout, curvature."""

from .attention import Attention
from .aux_losses import LossScope, collect_losses
from .curvature import Curvature, LogParameter

__all__ = ['Attention', 'Curvature', 'LogParameter', 'LossScope', 'collect_losses']
