"""Classifiers, linear layer, normalization and embeddings of spaces of constant curvature."""

from .batch_norm import LorentzBatchNorm
from .busemann import BusemannHead, ideal_prototypes
from .classifier import clip_features
from .embedding import HyperbolicEmbedding
from .linear import PoincareLinear
from .mlr import EuclideanMLR, LorentzMLR, PoincareMLR
from .prototypes import HyperbolicPrototypes

__all__ = [
    'BusemannHead',
    'EuclideanMLR',
    'HyperbolicEmbedding',
    'HyperbolicPrototypes',
    'LorentzBatchNorm',
    'LorentzMLR',
    'PoincareLinear',
    'PoincareMLR',
    'clip_features',
    'ideal_prototypes',
]
