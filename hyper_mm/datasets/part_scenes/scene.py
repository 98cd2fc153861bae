"""Composition: which things stand where in a scene, and the finished samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyper_mm.checks import check_choice

from .canvas import Canvas
from .captions import describe
from .instance import Instance
from .landscape import DAYLIGHTS, View, paint_ground, paint_hills, paint_sky
from .objects import EXTENT, draw_object
from .taxonomy import (
    PART_IDS,
    PART_TO_WHOLE_IDS,
    SCENE_CLASSES,
    THING_CLASSES,
)

SPLITS: tuple[str, ...] = ('train', 'val')
MIN_SIZE = 32


@dataclass(frozen=True)
class Sample:
    """A picture with everything that is known about it.

    Attributes:
        image: RGB, (H, W, 3) uint8.
        parts: Part labels, (H, W) uint8: 0 void, 1..P in the order of `PART_CLASSES`.
        wholes: Whole labels, (H, W) uint8: 0 void, 1..W in the order of `WHOLE_CLASSES`.
        instances: Instance ids, (H, W) int32: 0 for stuff and void.
        records: The visible things, in the order of their ids.
        scene: One of `SCENE_CLASSES`.
        captions: Four captions from general to specific.
    """

    image: np.ndarray
    parts: np.ndarray
    wholes: np.ndarray
    instances: np.ndarray
    records: tuple[Instance, ...]
    scene: str
    captions: tuple[str, ...]


@dataclass(frozen=True)
class _Item:
    """Between `low` and `high` things of a class, on some surfaces, at a range of depths."""

    whole: str
    low: int
    high: int
    surfaces: str
    far: float = 0.2
    near: float = 1.0


@dataclass(frozen=True)
class _Plan:
    """A scene class: variants of the ground, times of day, share with hills, and things."""

    grounds: tuple[tuple[tuple[str, float], ...], ...]
    items: tuple[_Item, ...]
    times: str = 'day day cloudy sunset'
    hills: float = 0.3


_STREET = (
    (('grass', 0.24), ('pavement', 0.35), ('road', 0.68), ('pavement', 0.83), ('grass', 1.0)),
    (('pavement', 0.33), ('road', 0.70), ('pavement', 1.0)),
)
_STREET_ITEMS = (
    _Item('house', 2, 4, 'grass pavement', 0.15, 0.24),
    _Item('tree', 0, 2, 'grass pavement', 0.14, 0.35),
    _Item('bus', 0, 1, 'asphalt', 0.42, 0.6),
    _Item('car', 1, 3, 'asphalt', 0.4, 0.8),
    _Item('lamp', 1, 2, 'pavement', 0.25, 0.85),
    _Item('person', 1, 3, 'pavement', 0.22),
    _Item('bicycle', 0, 1, 'asphalt pavement', 0.5),
    _Item('dog', 0, 1, 'pavement grass', 0.65, 0.95),
    _Item('bush', 0, 2, 'grass', 0.1),
)
PLANS: dict[str, _Plan] = {
    'village': _Plan(
        ((('road away', 1.0),), (('grass', 0.4), ('road', 0.62), ('grass', 1.0))),
        (
            _Item('house', 2, 4, 'grass', 0.14, 0.38),
            _Item('tree', 1, 3, 'grass', 0.12, 0.7),
            _Item('bush', 1, 3, 'grass', 0.3, 0.9),
            _Item('car', 0, 1, 'asphalt', 0.4, 0.7),
            _Item('person', 1, 2, 'grass asphalt', 0.35),
            _Item('dog', 0, 2, 'grass', 0.5),
            _Item('bicycle', 0, 1, 'grass', 0.55),
        ),
        hills=0.6,
    ),
    'street': _Plan(_STREET, _STREET_ITEMS),
    'night street': _Plan(_STREET, _STREET_ITEMS, times='night', hills=0.1),
    'city': _Plan(
        (
            (('pavement', 0.32), ('road', 0.7), ('pavement', 1.0)),
            (('pavement', 0.5), ('road', 1.0)),
        ),
        (
            _Item('tower', 3, 5, 'pavement', 0.12, 0.28),
            _Item('tree', 0, 2, 'pavement', 0.22, 0.4),
            _Item('bus', 1, 1, 'asphalt', 0.38, 0.7),
            _Item('car', 1, 3, 'asphalt', 0.4, 0.8),
            _Item('lamp', 1, 2, 'pavement', 0.22, 0.5),
            _Item('person', 2, 4, 'pavement', 0.24),
            _Item('bicycle', 0, 1, 'asphalt pavement', 0.5),
        ),
        times='day day cloudy sunset night',
        hills=0.0,
    ),
    'park': _Plan(
        (
            (('pond', 1.0),),
            (('path away', 1.0),),
            (('grass', 0.45), ('pavement', 0.66), ('grass', 1.0)),
        ),
        (
            _Item('tree', 3, 5, 'grass', 0.12, 0.75),
            _Item('bench', 1, 2, 'grass pavement', 0.35, 0.8),
            _Item('bush', 1, 3, 'grass', 0.2, 0.9),
            _Item('person', 1, 3, 'grass pavement', 0.35),
            _Item('dog', 0, 2, 'grass pavement', 0.45),
            _Item('lamp', 0, 2, 'grass', 0.25, 0.6),
            _Item('bicycle', 0, 1, 'pavement grass', 0.5),
            _Item('tower', 0, 1, 'grass', 0.06, 0.1),
        ),
        hills=0.1,
    ),
    'countryside': _Plan(
        ((('road away', 1.0),), (('grass', 0.5), ('road', 0.7), ('grass', 1.0)), (('grass', 1.0),)),
        (
            _Item('house', 0, 1, 'grass', 0.12, 0.3),
            _Item('tree', 2, 6, 'grass', 0.08, 0.7),
            _Item('bush', 1, 3, 'grass', 0.2, 0.9),
            _Item('car', 0, 1, 'asphalt', 0.3, 0.8),
            _Item('person', 0, 1, 'grass', 0.4),
            _Item('dog', 0, 1, 'grass', 0.5),
            _Item('bicycle', 0, 1, 'asphalt grass', 0.5),
        ),
        hills=1.0,
    ),
    'lake': _Plan(
        ((('grass', 0.08), ('water', 0.55), ('grass', 1.0)), (('water', 0.6), ('grass', 1.0))),
        (
            _Item('boat', 1, 3, 'water', 0.2, 0.55),
            _Item('tree', 1, 2, 'grass', 0.6, 0.8),
            _Item('bench', 0, 1, 'grass', 0.65, 0.9),
            _Item('person', 0, 2, 'grass', 0.65),
            _Item('dog', 0, 1, 'grass', 0.65),
            _Item('bush', 0, 2, 'grass', 0.65),
        ),
        hills=0.8,
    ),
    'beach': _Plan(
        ((('water', 0.45), ('sand', 1.0)), (('water', 0.35), ('sand', 0.85), ('pavement', 1.0))),
        (
            _Item('boat', 1, 2, 'water', 0.14, 0.42),
            _Item('person', 2, 4, 'sand pavement', 0.5),
            _Item('dog', 0, 2, 'sand', 0.55),
            _Item('bench', 0, 1, 'sand pavement', 0.6, 0.9),
            _Item('bicycle', 0, 1, 'pavement sand', 0.65),
            _Item('bush', 0, 1, 'sand', 0.6, 0.9),
        ),
        times='day day day cloudy sunset',
        hills=0.3,
    ),
}


def scene_class(seed: int, index: int, split: str = 'train') -> str:
    """Return the scene class of a sample without drawing it.

    Args:
        seed: Seed of the data set.
        index: Number of the sample, from 0.
        split: `'train'` or `'val'`.

    Returns:
        One of `SCENE_CLASSES`.
    """
    return str(_generator('scene', seed, index, split).choice(SCENE_CLASSES))


def render_scene(
    seed: int, index: int, size: tuple[int, int] = (128, 128), split: str = 'train'
) -> Sample:
    """Draw the scene of a seed, split and index; other samples have no influence on it.

    Args:
        seed: Seed of the data set, at least 0.
        index: Number of the sample, from 0.
        size: Height and width in pixels, each at least 32.
        split: `'train'` or `'val'`.

    Returns:
        The sample.

    Raises:
        TypeError: If seed, index or size are not integers.
        ValueError: If an argument is out of range.
    """
    size = check_size(size)
    rng = _generator('scene', seed, index, split)
    scene = str(rng.choice(SCENE_CLASSES))
    canvas, view, time = _backdrop(scene, size, rng)
    ground = canvas.maps()[0]
    away = bool(
        (ground[-1] == PART_IDS['asphalt']).any() and (ground[-1] == PART_IDS['grass']).any()
    )
    places = _place(PLANS[scene].items, view, ground, rng)
    things = []
    for number, (whole, x, y) in enumerate(places, 1):
        haze = 0.35 * max(0.0, 1 - (y - view.horizon) / (0.3 * (size[0] - view.horizon)))
        scale = view.scale(y) * rng.uniform(0.92, 1.08)
        color = draw_object(canvas, whole, (x, y), scale, rng, number, haze, front_view=away)
        things.append((whole, color))
    return _develop(canvas, scene, time, things, rng)


def render_object(
    whole_class: str,
    seed: int,
    index: int,
    size: tuple[int, int] = (128, 128),
    split: str = 'train',
) -> Sample:
    """Draw one large thing before the empty background of any scene class.

    The background is drawn independently of the class, so that it does not give the class away.

    Args:
        whole_class: One of `THING_CLASSES`.
        seed: Seed of the data set, at least 0.
        index: Number of the sample, from 0.
        size: Height and width in pixels, each at least 32.
        split: `'train'` or `'val'`.

    Returns:
        The sample, with a single instance.

    Raises:
        TypeError: If seed, index or size are not integers.
        ValueError: If an argument is out of range.
    """
    check_choice(THING_CLASSES, whole_class=whole_class)
    size = check_size(size)
    rng = _generator(whole_class, seed, index, split)
    scene = str(rng.choice(SCENE_CLASSES))
    canvas, view, time = _backdrop(scene, size, rng)
    width, height = EXTENT[whole_class]
    scale = min(size[0] / height, size[1] / width) * rng.uniform(0.5, 0.88)
    foot = (
        size[1] * 0.5 + rng.uniform(-0.5, 0.5) * max(size[1] - width * scale, 0.0) * 0.8,
        size[0] * 0.5 + 0.5 * height * scale + rng.uniform(-0.05, 0.05) * size[0],
    )
    front_view = bool(rng.random() < 0.3)
    color = draw_object(canvas, whole_class, foot, scale, rng, 1, front_view=front_view)
    return _develop(canvas, scene, time, [(whole_class, color)], rng)


def check_int(name: str, value: int, minimum: int) -> int:
    """Return an integer argument after checking its type and its minimum."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f'{name} must be an integer, got {value!r}')
    if value < minimum:
        raise ValueError(f'{name} must be at least {minimum}, got {value}')
    return int(value)


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) after checking that both are integers of at least 32."""
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise TypeError(f'size must be a pair (height, width), got {size!r}')
    return check_int('size[0]', size[0], MIN_SIZE), check_int('size[1]', size[1], MIN_SIZE)


def _generator(subject: str, seed: int, index: int, split: str) -> np.random.Generator:
    """A random stream of its own for every sample of scenes and of each thing class."""
    check_choice(SPLITS, split=split)
    seed, index = check_int('seed', seed, 0), check_int('index', index, 0)
    stream = 0 if subject == 'scene' else 1 + THING_CLASSES.index(subject)
    return np.random.default_rng((seed, stream, SPLITS.index(split), index))


def _backdrop(scene: str, size: tuple[int, int], rng: np.random.Generator):
    """Canvas with sky, hills and ground; the camera; the time of day."""
    plan = PLANS[scene]
    time = str(rng.choice(plan.times.split()))
    light = DAYLIGHTS[time]
    canvas = Canvas(size, rng, float(rng.uniform(-1, 1)), light.horizon, night=time == 'night')
    view = View(size, size[0] * rng.uniform(0.36, 0.48), rng.uniform(2.7, 3.8))
    paint_sky(canvas, view, light, rng)
    if rng.random() < plan.hills:
        paint_hills(canvas, view, rng)
    paint_ground(canvas, view, plan.grounds[int(rng.integers(len(plan.grounds)))], rng)
    return canvas, view, time


def _place(items, view: View, ground: np.ndarray, rng) -> list[tuple[str, float, float]]:
    """Choose (class, x, y) of the feet, from far to near; what finds no room is left out."""
    height, width = view.size
    placed: list[tuple[str, float, float]] = []
    for item in items:
        allowed = np.zeros(len(PART_IDS) + 1, bool)
        allowed[[PART_IDS[name] for name in item.surfaces.split()]] = True
        allowed[PART_IDS['road marking']] = allowed[PART_IDS['asphalt']]
        for _ in range(int(rng.integers(item.low, item.high + 1))):
            for _ in range(30):
                y = view.row(rng.uniform(item.far, item.near))
                x = rng.uniform(-0.02, 1.02) * width
                half = 0.45 * EXTENT[item.whole][0] * view.scale(y)
                feet = (min(max(u, 0), width - 1) for u in (x - half, x, x + half))
                columns = [int(u * ground.shape[1] / width) for u in feet]
                row = min(int(y * ground.shape[0] / height), ground.shape[0] - 1)
                stands = allowed[ground[row, columns]].all()
                if stands and not any(_collide(view, (item.whole, x, y), p) for p in placed):
                    placed.append((item.whole, float(x), float(y)))
                    break
    return sorted(placed, key=lambda thing: thing[2])


def _collide(view: View, one, other) -> bool:
    """Whether two things would stand in each other, or one would hide the other's like."""
    (name, x, y), (name2, x2, y2) = one, other
    reach = 0.5 * (EXTENT[name][0] * view.scale(y) + EXTENT[name2][0] * view.scale(y2))
    near = abs(y - y2) < 0.12 * reach
    return abs(x - x2) < reach * (0.85 if near else 0.45 if name == name2 else 0.2)


def _develop(canvas: Canvas, scene: str, time: str, things, rng) -> Sample:
    """Light the picture, renumber the visible instances and describe them."""
    brightness = rng.uniform(0.88, 1.1)
    cast = rng.uniform(0.96, 1.04, 3)
    tint = tuple(float(t * brightness * c) for t, c in zip(DAYLIGHTS[time].tint, cast))
    image, parts, instances = canvas.develop(tint, float(rng.uniform(0.005, 0.025)), rng)
    visible = np.unique(instances[instances > 0])
    renumber = np.zeros(len(things) + 1, np.int32)
    renumber[visible] = np.arange(1, len(visible) + 1)
    instances = renumber[instances]
    records = []
    for number, old in enumerate(visible, 1):
        ys, xs = np.nonzero(instances == number)
        x, y = int(xs.min()), int(ys.min())
        box = (x, y, int(xs.max()) - x + 1, int(ys.max()) - y + 1)
        whole, color = things[old - 1]
        records.append(Instance(number, whole, box, len(xs), color))
    captions = describe(scene, DAYLIGHTS[time].phrase, records, parts.size)
    wholes = PART_TO_WHOLE_IDS[parts]
    return Sample(image, parts, wholes, instances, tuple(records), scene, captions)
