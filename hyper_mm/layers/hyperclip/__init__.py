"""HyperCLIP (CVPR 2025): block-diagonal Moebius updates of CLIP attention weights."""

from .adapted_weight import cached_weights, merge_weights
from .adapter import HyperCLIPAdapter, apply_hyperclip
from .block_diagonal import BlockDiagonalMobius

__all__ = [
    'BlockDiagonalMobius',
    'HyperCLIPAdapter',
    'apply_hyperclip',
    'cached_weights',
    'merge_weights',
]
