"""Dense features of CLIP and CAT-Seg cost aggregation for open vocabularies."""

from .cost_aggregation import CostAggregator, CostDecoder
from .dense_clip import DenseCLIP, DenseFeatures

__all__ = ['CostAggregator', 'CostDecoder', 'DenseCLIP', 'DenseFeatures']
