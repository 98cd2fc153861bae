"""LatHAdapter: a latent hierarchy of classes and attributes, and the prompt learners below it."""

from .latent_hierarchy import AttributeRefiner, LatentHierarchyLoss
from .prompts import IVLP, VPT, CoOp, MaPLe, Prompts

__all__ = ['AttributeRefiner', 'CoOp', 'IVLP', 'LatentHierarchyLoss', 'MaPLe', 'Prompts', 'VPT']
