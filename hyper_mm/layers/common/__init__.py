"""Building blocks that several methods share: attention, dropout, curvature."""

from .attention import Attention
from .curvature import Curvature, LogParameter

__all__ = ['Attention', 'Curvature', 'LogParameter']
