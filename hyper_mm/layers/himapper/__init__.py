"""Hi-Mapper (CVPR 2024): a visual hierarchy of an image in hyperbolic space."""

from .fusion import AssignmentFusion, NodeFusion, TokenFusion
from .hierarchy import HierarchyDecomposer, HierarchyEncoder, Nodes
from .hierarchy_loss import HierarchicalContrastiveLoss, LorentzLift
from .mapper import Hierarchy, HierarchyMapper
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
]
