"""The things that can be drawn, and their sizes.

A drawing function takes a pen (meters, origin at the foot, front to the right) and a random
generator, and returns the name of the object's color, or None where it has no color of its own.
Proportions are those of toys: people and doors are large, houses and buses small.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .buildings import draw_bench, draw_house, draw_lamp, draw_tower
from .canvas import Canvas, Pen, Point
from .living import draw_bush, draw_dog, draw_person, draw_tree
from .vehicles import draw_bicycle, draw_boat, draw_bus, draw_car, draw_car_front

DRAW: dict[str, Callable[[Pen, np.random.Generator], str | None]] = {
    'house': draw_house,
    'tower': draw_tower,
    'person': draw_person,
    'dog': draw_dog,
    'car': draw_car,
    'bus': draw_bus,
    'bicycle': draw_bicycle,
    'boat': draw_boat,
    'tree': draw_tree,
    'bush': draw_bush,
    'lamp': draw_lamp,
    'bench': draw_bench,
}
EXTENT: dict[str, Point] = {
    'house': (7.0, 7.0),
    'tower': (8.0, 14.0),
    'person': (1.1, 2.2),
    'dog': (1.9, 1.3),
    'car': (4.1, 1.6),
    'bus': (7.0, 3.1),
    'bicycle': (2.5, 1.3),
    'boat': (3.5, 4.2),
    'tree': (3.0, 5.2),
    'bush': (2.4, 1.4),
    'lamp': (1.6, 5.0),
    'bench': (2.6, 1.3),
}
"""Usual width and height in meters."""


def draw_object(
    canvas: Canvas,
    whole: str,
    foot: Point,
    scale: float,
    rng: np.random.Generator,
    instance: int,
    haze: float = 0.0,
    front_view: bool = False,
) -> str | None:
    """Draw a thing and its shadow.

    Args:
        canvas: Where to draw.
        whole: One of `THING_CLASSES`.
        foot: Where it stands, in pixels of the final picture.
        scale: Pixels per meter.
        rng: Source of its looks.
        instance: Its id, from 1.
        haze: Share of haze in its colors.
        front_view: Whether a car is seen along the road.

    Returns:
        The name of its color, if it has one.
    """
    pen = Pen(canvas, foot, scale, instance, flip=bool(rng.random() < 0.5), haze=haze)
    front_view = front_view and whole == 'car'
    pen.shadow(2.2 if front_view else EXTENT[whole][0])
    return (draw_car_front if front_view else DRAW[whole])(pen, rng)
