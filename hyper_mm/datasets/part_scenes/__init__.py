"""PartScenes: a drawn data set whose part-whole hierarchy is known exactly.

Street, park and waterside scenes whose things consist of parts, with occlusion, perspective,
texture and changing light, labeled on four levels: parts, wholes, super-classes and the scene,
with instances and captions. Every sample is a function of (seed, split, index) alone; between
OpenCV 4 and 5, which fill polygons differently, about a thousandth of the pixels (at edges) differ.
Drawing needs numpy and OpenCV only.
"""

from .instance import Instance
from .scene import SPLITS, Sample, render_object, render_scene, scene_class
from .taxonomy import (
    PART_CLASSES,
    PART_IDS,
    PART_PALETTE,
    PART_TO_WHOLE,
    PART_TO_WHOLE_IDS,
    SCENE_CLASSES,
    SCENE_GROUPS,
    STUFF_CLASSES,
    SUPER_CLASSES,
    THING_CLASSES,
    WHOLE_CLASSES,
    WHOLE_IDS,
    WHOLE_PALETTE,
    WHOLE_TO_SUPER,
    part_whole_tree,
)
from .writers import FORMATS, generate

__all__ = [
    'FORMATS',
    'Instance',
    'PART_CLASSES',
    'PART_IDS',
    'PART_PALETTE',
    'PART_TO_WHOLE',
    'PART_TO_WHOLE_IDS',
    'SCENE_CLASSES',
    'SCENE_GROUPS',
    'SPLITS',
    'STUFF_CLASSES',
    'SUPER_CLASSES',
    'Sample',
    'THING_CLASSES',
    'WHOLE_CLASSES',
    'WHOLE_IDS',
    'WHOLE_PALETTE',
    'WHOLE_TO_SUPER',
    'generate',
    'part_whole_tree',
    'render_object',
    'render_scene',
    'scene_class',
]
