"""Cars, buses, bicycles and boats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .canvas import Pen, boards, plain, stripes
from .common import COLORS, GLASS, RUBBER, named, one_of, times, vary, windows


def _wheels(pen: Pen, part: str, xs: Sequence[float], radius: float) -> None:
    for x in xs:
        pen.ellipse(x, radius, radius, radius, part, RUBBER)
        pen.ellipse(x, radius, 0.5 * radius, 0.5 * radius, part, (0.65, 0.66, 0.68))


def draw_car(pen: Pen, rng: np.random.Generator) -> str:
    """A car from the side."""
    name, paint = named(rng, 'red orange yellow green blue white grey black')
    glass = vary(rng, one_of(rng, GLASS))
    rear, front, high = rng.uniform(-1.5, -1.0), rng.uniform(0.45, 0.8), rng.uniform(1.45, 1.65)
    body = [(-2.0, 0.35), (2.0, 0.35), (2.05, 0.75), (1.9, 0.95), (1.2, 1.02), (front, high)]
    body += [(rear, high), (-1.75, 1.02), (-2.05, 0.9)]
    pen.polygon(body, 'car body', paint, shading=0.18)
    low, top = 1.0, high - 0.12
    panes = [
        [(-1.55, low), (-0.28, low), (-0.28, top), (rear + 0.1, top)],
        [(-0.12, low), (1.02, low), (front - 0.08, top), (-0.12, top)],
    ]
    pen.polygons(panes, 'car window', glass, shading=0.0)
    pen.rect((-0.5, 0.82, -0.25, 0.9), 'car body', times(paint, 0.6))
    pen.rect((1.78, 0.6, 2.06, 0.85), 'car light', (1.0, 0.95, 0.7), emit=0.9)
    pen.rect((-2.06, 0.6, -1.84, 0.88), 'car light', (0.85, 0.12, 0.1), emit=0.7)
    _wheels(pen, 'car wheel', (-1.2, 1.2), 0.4)
    return name


def draw_car_front(pen: Pen, rng: np.random.Generator) -> str:
    """A car from the front or from behind."""
    name, paint = named(rng, 'red orange yellow green blue white grey black')
    glass, lamp = vary(rng, one_of(rng, GLASS)), (1.0, 0.95, 0.7)
    if rng.random() < 0.4:
        lamp = (0.85, 0.12, 0.1)
    pen.rects([(-0.95, 0, -0.6, 0.5), (0.6, 0, 0.95, 0.5)], 'car wheel', RUBBER)
    body = [(-1.05, 0.3), (1.05, 0.3), (1.05, 0.95), (0.85, 1.05), (0.62, 1.65), (-0.62, 1.65)]
    pen.polygon([*body, (-0.85, 1.05), (-1.05, 0.95)], 'car body', paint, shading=0.18)
    pane = [(-0.74, 1.05), (0.74, 1.05), (0.54, 1.53), (-0.54, 1.53)]
    pen.polygon(pane, 'car window', glass, shading=0.0)
    pen.rect((-0.5, 0.45, 0.5, 0.62), 'car body', times(paint, 0.5))
    for x in (-0.78, 0.78):
        pen.ellipse(x, 0.75, 0.2, 0.16, 'car light', lamp, emit=0.9)
    return name


def draw_bus(pen: Pen, rng: np.random.Generator) -> str:
    """A bus from the side."""
    name, paint = named(rng, 'red orange yellow green blue white')
    half, high = rng.uniform(3.0, 3.8), rng.uniform(2.7, 3.2)
    body = [(-half, 0.4), (half, 0.4), (half, high - 0.5), (half - 0.3, high), (-half, high)]
    pen.polygon(body, 'bus body', paint, shading=0.12)
    pen.rect(
        (-half, 0.75, half, 1.05), 'bus body', one_of(rng, [times(paint, 0.7), COLORS['white']])
    )
    edges = np.linspace(-half + 0.25, half - 1.3, 6)
    boxes = [(a + 0.06, 1.4, b - 0.06, high - 0.45) for a, b in zip(edges, edges[1:])]
    windows(pen, rng, 'bus window', [*boxes, (half - 1.1, 0.6, half - 0.15, high - 0.45)], RUBBER)
    pen.rect((half - 0.3, 0.5, half + 0.06, 1.0), 'bus light', (1.0, 0.95, 0.7), emit=0.9)
    pen.rect((-half - 0.06, 0.5, -half + 0.24, 1.0), 'bus light', (0.85, 0.12, 0.1), emit=0.7)
    _wheels(pen, 'bus wheel', (-0.6 * half, 0.5 * half), 0.48)
    return name


def draw_bicycle(pen: Pen, rng: np.random.Generator) -> str:
    """A bicycle from the side."""
    name, paint = named(rng, 'red orange yellow green blue purple white black')
    for x in (-0.72, 0.72):
        pen.ring(x, 0.5, 0.5, 0.12, 'bicycle wheel', RUBBER, shading=0.0)
    seat, crank, head = (-0.3, 1.05), (-0.08, 0.5), (0.5, 1.0)
    strokes = [((-0.72, 0.5), seat), ((-0.72, 0.5), crank), (seat, crank), (crank, head)]
    for start, end in [*strokes, ((-0.26, 0.95), head), ((0.72, 0.5), (0.46, 1.2))]:
        pen.line(start, end, 0.11, 'bicycle frame', paint)
    pen.line((0.3, 1.22), (0.62, 1.26), 0.1, 'bicycle frame', RUBBER)
    pen.line((-0.5, 1.1), (-0.12, 1.1), 0.13, 'bicycle frame', RUBBER)
    return name


def draw_boat(pen: Pen, rng: np.random.Generator) -> str:
    """A sailing boat; its foot is the water line."""
    name, cloth = named(rng, 'white white white red orange yellow blue')
    hull = vary(rng, COLORS[one_of(rng, ['brown', 'white', 'red', 'blue', 'black'])])
    high = rng.uniform(3.2, 4.4)
    pen.line((0.1, 0.5), (0.1, high + 0.2), 0.13, 'boat mast', (0.42, 0.30, 0.2))
    texture = one_of(rng, [plain, plain, boards, stripes])
    sail = [(-0.02, high), (-0.02, 0.9), (-1.4, 0.9)]
    pen.polygon(sail, 'boat sail', cloth, texture=texture, shading=0.12)
    if rng.random() < 0.75:
        jib = [(0.22, 0.9 * high), (0.22, 0.9), (1.35, 0.75)]
        pen.polygon(jib, 'boat sail', times(cloth, 0.9), texture=texture)
    pen.polygon([(-1.6, 0.6), (1.8, 0.7), (1.2, 0), (-1.3, 0)], 'boat hull', hull, texture=boards)
    pen.polygon(
        [(-1.6, 0.6), (1.8, 0.7), (1.7, 0.52), (-1.55, 0.44)], 'boat hull', times(hull, 1.3)
    )
    return name
