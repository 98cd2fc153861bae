"""Dense features of CLIP and CAT-Seg cost aggregation for open vocabularies."""

from .cost_aggregation import CostAggregator, CostDecoder
from .dense_clip import DenseCLIP, DenseFeatures
from .dense_cnn import DenseCNN
from .kernel_projection import KernelProjection

__all__ = [
    'CostAggregator',
    'CostDecoder',
    'DenseCLIP',
    'DenseCNN',
    'DenseFeatures',
    'KernelProjection',
]
