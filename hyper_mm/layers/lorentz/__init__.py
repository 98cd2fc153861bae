"""HELM (fully hyperbolic language models) and LorentzViT, with their Euclidean baselines."""

from .attention import HMLA, LorentzAttention
from .block import LorentzBlock
from .cache import TokenCache
from .embedding import LorentzEmbedding
from .ffn import LorentzSwiGLU
from .hope import HoPE
from .linear import LorentzLinear
from .mice import MiCE
from .norm import LorentzResidual, LorentzRMSNorm
from .vit import LorentzVisionTransformer

__all__ = [
    'HMLA',
    'HoPE',
    'LorentzAttention',
    'LorentzBlock',
    'LorentzEmbedding',
    'LorentzLinear',
    'LorentzRMSNorm',
    'LorentzResidual',
    'LorentzSwiGLU',
    'LorentzVisionTransformer',
    'MiCE',
    'TokenCache',
]
