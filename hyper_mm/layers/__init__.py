"""Plain :class:`torch.nn.Module` building blocks. Needs torch alone."""

from .attention import Attention
from .curvature import Curvature, LogParameter
from .fusion import AssignmentFusion, NodeFusion, TokenFusion
from .hierarchy import HierarchyDecomposer, HierarchyEncoder, Nodes
from .hierarchy_loss import HierarchicalContrastiveLoss, LorentzLift
from .mapper import Hierarchy, HierarchyMapper
from .structure_loss import StructureLoss
from .tree import HierarchyTree, Queries

__all__ = [
    'AssignmentFusion',
    'Attention',
    'Curvature',
    'HierarchicalContrastiveLoss',
    'Hierarchy',
    'HierarchyDecomposer',
    'HierarchyEncoder',
    'HierarchyMapper',
    'HierarchyTree',
    'LogParameter',
    'LorentzLift',
    'NodeFusion',
    'Nodes',
    'Queries',
    'StructureLoss',
    'TokenFusion',
]
