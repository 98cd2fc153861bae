"""Hi-Mapper (CVPR 2024): a visual hierarchy of an image in hyperbolic space."""

from .contrastive_loss import HierarchicalContrastiveLoss
from .decomposer import HierarchyDecomposer, Nodes
from .encoder import HierarchyEncoder
from .fusion import AssignmentFusion, NodeFusion, TokenFusion
from .lift import LorentzLift
from .mapper import Hierarchy, HierarchyMapper, used_nodes
from .structure_loss import StructureLoss
from .tree import HierarchyTree, Queries

__all__ = [
    'AssignmentFusion',
    'HierarchicalContrastiveLoss',
    'Hierarchy',
    'HierarchyDecomposer',
    'HierarchyEncoder',
    'HierarchyMapper',
    'HierarchyTree',
    'LorentzLift',
    'NodeFusion',
    'Nodes',
    'Queries',
    'StructureLoss',
    'TokenFusion',
    'used_nodes',
]
