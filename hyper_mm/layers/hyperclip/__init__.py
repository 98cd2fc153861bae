"""HyperCLIP (CVPR 2025): block-diagonal Moebius updates of CLIP attention weights."""

from .adapted_weight import cached_weights, merge_weights
from .adapter import HyperCLIPAdapter, apply_hyperclip
from .block_diagonal import BlockDiagonalMobius
from .weight_adapter import adapter_names, use_adapters
from .weight_updates import FullTuning, LoRAAdapter, TrainedPartsAdapter

__all__ = [
    'BlockDiagonalMobius',
    'FullTuning',
    'HyperCLIPAdapter',
    'LoRAAdapter',
    'TrainedPartsAdapter',
    'adapter_names',
    'apply_hyperclip',
    'cached_weights',
    'merge_weights',
    'use_adapters',
]
