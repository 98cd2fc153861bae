"""Plain :class:`torch.nn.Module` building blocks. Needs torch alone."""

from .attention import Attention
from .batch_dice import BatchDice
from .block_diagonal import BlockDiagonalMobius
from .boundary_contrast import Bands, BoundaryInfoNCE, boundary_bands
from .cost_aggregation import CostAggregator, CostDecoder
from .curvature import Curvature, LogParameter
from .dense_clip import DenseCLIP, DenseFeatures
from .fusion import AssignmentFusion, NodeFusion, TokenFusion
from .hierarchy import HierarchyDecomposer, HierarchyEncoder, Nodes
from .hierarchy_loss import HierarchicalContrastiveLoss, LorentzLift
from .hope import HoPE
from .hyperclip import HyperCLIPAdapter, apply_hyperclip
from .latent_hierarchy import AttributeRefiner, LatentHierarchyLoss
from .lorentz_attention import HMLA, LorentzAttention
from .lorentz_block import LorentzBlock
from .lorentz_embedding import LorentzEmbedding
from .lorentz_ffn import LorentzSwiGLU
from .lorentz_linear import LorentzLinear
from .lorentz_norm import LorentzResidual, LorentzRMSNorm
from .lorentz_vit import LorentzVisionTransformer
from .mapper import Hierarchy, HierarchyMapper
from .mice import MiCE
from .prompts import IVLP, VPT, CoOp, MaPLe, Prompts
from .prototypes import PrototypeClassifier
from .radial import EntailmentConeLoss, RadialEmbeddingLoss
from .structure_loss import StructureLoss
from .token_cache import TokenCache
from .tree import HierarchyTree, Queries

__all__ = [
    'AssignmentFusion',
    'Attention',
    'Bands',
    'AttributeRefiner',
    'BatchDice',
    'BlockDiagonalMobius',
    'BoundaryInfoNCE',
    'CoOp',
    'CostAggregator',
    'CostDecoder',
    'Curvature',
    'DenseCLIP',
    'DenseFeatures',
    'EntailmentConeLoss',
    'HMLA',
    'HierarchicalContrastiveLoss',
    'Hierarchy',
    'HierarchyDecomposer',
    'HierarchyEncoder',
    'HierarchyMapper',
    'HierarchyTree',
    'HoPE',
    'HyperCLIPAdapter',
    'IVLP',
    'LatentHierarchyLoss',
    'LogParameter',
    'LorentzAttention',
    'LorentzBlock',
    'LorentzEmbedding',
    'LorentzLift',
    'LorentzLinear',
    'LorentzRMSNorm',
    'LorentzResidual',
    'LorentzSwiGLU',
    'LorentzVisionTransformer',
    'MiCE',
    'MaPLe',
    'NodeFusion',
    'Nodes',
    'PrototypeClassifier',
    'Prompts',
    'Queries',
    'RadialEmbeddingLoss',
    'StructureLoss',
    'TokenCache',
    'TokenFusion',
    'VPT',
    'apply_hyperclip',
    'boundary_bands',
]
