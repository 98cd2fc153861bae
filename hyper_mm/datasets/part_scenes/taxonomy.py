"""The public taxonomy of PartScenes: super-classes, wholes and their parts.

Labels follow the order of the tree below, things before stuff, and start at 1; 0 is void. Every
part class belongs to exactly one whole, so the map of wholes is a function of the map of parts.
"""

from __future__ import annotations

import numpy as np


def _of(whole: str, *parts: str) -> tuple[str, ...]:
    return tuple(f'{whole} {part}' for part in parts)


_THINGS = {
    'building': {
        'house': _of('house', 'roof', 'wall', 'door', 'window', 'chimney'),
        'tower': _of('tower', 'roof', 'wall', 'entrance', 'window'),
    },
    'living': {
        'person': _of('person', 'head', 'torso', 'arm', 'leg'),
        'dog': _of('dog', 'head', 'body', 'leg', 'tail'),
    },
    'vehicle': {
        'car': _of('car', 'body', 'window', 'wheel', 'light'),
        'bus': _of('bus', 'body', 'window', 'wheel', 'light'),
        'bicycle': _of('bicycle', 'frame', 'wheel'),
        'boat': _of('boat', 'hull', 'mast', 'sail'),
    },
    'vegetation': {
        'tree': _of('tree', 'crown', 'trunk'),
        'bush': _of('bush', 'leaves', 'flower'),
    },
    'fixture': {
        'lamp': _of('lamp', 'pole', 'head'),
        'bench': _of('bench', 'seat', 'leg'),
    },
}
_STUFF = {
    'air': {'sky': ('clear sky', 'cloud', 'sun')},
    'terrain': {
        'hill': ('hill',),
        'grass': ('grass',),
        'sand': ('sand',),
        'road': ('asphalt', 'road marking'),
        'pavement': ('pavement',),
        'water': ('water',),
    },
}
_TREE = {**_THINGS, **_STUFF}

SUPER_CLASSES: tuple[str, ...] = tuple(_TREE)
WHOLE_TO_SUPER: dict[str, str] = {whole: name for name, wholes in _TREE.items() for whole in wholes}
PART_TO_WHOLE: dict[str, str] = {
    part: whole for wholes in _TREE.values() for whole, parts in wholes.items() for part in parts
}
WHOLE_CLASSES: tuple[str, ...] = tuple(WHOLE_TO_SUPER)
PART_CLASSES: tuple[str, ...] = tuple(PART_TO_WHOLE)
THING_CLASSES: tuple[str, ...] = tuple(w for wholes in _THINGS.values() for w in wholes)
STUFF_CLASSES: tuple[str, ...] = WHOLE_CLASSES[len(THING_CLASSES) :]

PART_IDS: dict[str, int] = {name: i for i, name in enumerate(PART_CLASSES, 1)}
WHOLE_IDS: dict[str, int] = {name: i for i, name in enumerate(WHOLE_CLASSES, 1)}

PART_TO_WHOLE_IDS: np.ndarray = np.array(
    [0, *(WHOLE_IDS[PART_TO_WHOLE[part]] for part in PART_CLASSES)], dtype=np.uint8
)
"""Look-up table of shape (P + 1,) from part labels to whole labels; void stays void."""
PART_TO_WHOLE_IDS.setflags(write=False)

SCENE_GROUPS: dict[str, tuple[str, ...]] = {
    'town': ('village', 'street', 'city', 'night street'),
    'green': ('park', 'countryside'),
    'waterside': ('lake', 'beach'),
}
SCENE_CLASSES: tuple[str, ...] = tuple(s for scenes in SCENE_GROUPS.values() for s in scenes)

WHOLE_PALETTE: tuple[tuple[int, int, int], ...] = (
    (200, 70, 50),  # house
    (150, 110, 160),  # tower
    (240, 120, 150),  # person
    (160, 90, 40),  # dog
    (40, 90, 220),  # car
    (20, 160, 190),  # bus
    (120, 60, 200),  # bicycle
    (250, 150, 60),  # boat
    (20, 120, 50),  # tree
    (110, 190, 40),  # bush
    (220, 190, 30),  # lamp
    (120, 120, 20),  # bench
    (120, 190, 240),  # sky
    (80, 140, 110),  # hill
    (150, 220, 110),  # grass
    (230, 210, 150),  # sand
    (100, 100, 110),  # road
    (190, 180, 180),  # pavement
    (30, 120, 160),  # water
)


def _part_palette() -> tuple[tuple[int, int, int], ...]:
    """The parts of a whole are shades of its color, from dark to light."""
    palette = []
    for whole, base in zip(WHOLE_CLASSES, WHOLE_PALETTE):
        count = sum(owner == whole for owner in PART_TO_WHOLE.values())
        for k in range(count):
            shade = 0.0 if count == 1 else 0.9 * k / (count - 1) - 0.4
            target = 255 if shade > 0 else 0
            palette.append(tuple(round(c + abs(shade) * (target - c)) for c in base))
    return tuple(palette)


PART_PALETTE: tuple[tuple[int, int, int], ...] = _part_palette()


def part_whole_tree() -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the true hierarchy of the classes.

    Returns:
        A fresh nested dict `{super class: {whole class: (part class, ...)}}` in label order. A
        whole of a single part shares its name with that part (for example `'grass'`).
    """
    return {name: dict(wholes) for name, wholes in _TREE.items()}
