"""Houses, towers and what stands along the ways: lamps and benches."""

from __future__ import annotations

import numpy as np

from .canvas import Pen, boards, bricks, grainy, plain, tiles
from .common import COLORS, GLASS, LIT, named, one_of, times, vary, windows


def draw_house(pen: Pen, rng: np.random.Generator) -> str:
    """A house of one or two storeys with a gabled or hipped roof."""
    name, wall = named(rng, 'red yellow blue green pink brown white white grey')
    half, storeys = rng.uniform(2.5, 3.6), int(rng.integers(1, 3))
    height, rise = 2.7 * storeys, rng.uniform(1.5, 2.4)
    top, eave, ridge = height + rise, half + 0.4, rng.choice([0.0, 0.55]) * half
    roof = vary(rng, one_of(rng, [(0.62, 0.25, 0.18), (0.33, 0.33, 0.37), (0.45, 0.30, 0.22)]))

    x = rng.choice([-1, 1]) * rng.uniform(0.35, 0.5) * half
    chimney = times(roof, 0.8) if rng.random() < 0.4 else vary(rng, (0.55, 0.38, 0.32))
    pen.rect(
        (x - 0.35, height + 0.2, x + 0.35, top + 0.5), 'house chimney', chimney, texture=bricks
    )
    texture = one_of(rng, [plain, bricks, boards])
    pen.rect((-half, 0, half, height), 'house wall', wall, texture=texture, shading=0.12)
    outline = [(-eave, height - 0.1), (eave, height - 0.1), (ridge, top), (-ridge, top)]
    pen.polygon(outline, 'house roof', roof, texture=one_of(rng, [tiles, boards, plain]))

    # Every third door has the color of the wall: only its frame and its place give it away.
    door = times(wall, 0.86) if rng.random() < 0.35 else named(rng, 'red green blue brown white')[1]
    x = rng.choice([-0.5, 0.0, 0.5]) * half
    pen.rect((x - 0.6, 0, x + 0.6, 2.1), 'house door', times(wall, 0.6))
    pen.rect((x - 0.48, 0, x + 0.48, 1.98), 'house door', door)
    pen.ellipse(x + 0.3, 1.0, 0.09, 0.09, 'house door', (0.85, 0.75, 0.3))

    spots = [(-0.6, 0), (0.0, 0), (0.6, 0)] + [(-0.6, 1), (0.0, 1), (0.6, 1)] * (storeys - 1)
    free = [(u * half, 2.7 * v) for u, v in spots if v or abs(u * half - x) > 1.1]
    boxes = [(u - 0.5, v + 0.95, u + 0.5, v + 2.0) for u, v in free]
    windows(pen, rng, 'house window', boxes, one_of(rng, [COLORS['white'], times(wall, 0.7)]))
    return name


def draw_tower(pen: Pen, rng: np.random.Generator) -> str:
    """A block of flats with a grid of windows."""
    name, wall = named(rng, 'grey grey white brown red yellow blue')
    columns, floors = int(rng.integers(3, 6)), int(rng.integers(4, 8))
    half, height = 0.85 * columns + 0.3, 2.0 * floors + 1.6
    texture = one_of(rng, [plain, bricks, boards])
    pen.rect((-half, 0, half, height), 'tower wall', wall, texture=texture, shading=0.15)
    roof = times(wall, 0.6)
    pen.rect((-half - 0.2, height - 0.4, half + 0.2, height + 0.3), 'tower roof', roof)
    x = rng.uniform(-0.5, 0.3) * half
    pen.rect((x, height + 0.2, x + 1.4, height + 1.3), 'tower roof', roof, texture=boards)

    xs = (np.arange(columns) - (columns - 1) / 2) * 1.7
    width = rng.uniform(0.4, 0.65)
    boxes = [(u - width, 2 * v + 0.5, u + width, 2 * v + 1.7) for v in range(1, floors) for u in xs]
    windows(pen, rng, 'tower window', boxes, times(wall, rng.choice([0.75, 1.15])))
    glass = LIT if pen.night else vary(rng, one_of(rng, GLASS))
    pen.rect((-0.95, 0, 0.95, 2.2), 'tower entrance', times(wall, 0.5))
    pen.rects([(-0.8, 0, -0.08, 2.0), (0.08, 0, 0.8, 2.0)], 'tower entrance', glass, emit=0.5)
    return name


def draw_lamp(pen: Pen, rng: np.random.Generator) -> None:
    """A street lamp with an arm or with a lantern."""
    metal, high = vary(rng, one_of(rng, [(0.25, 0.28, 0.28), (0.55, 0.57, 0.58)])), 4.2
    light = LIT if pen.night else vary(rng, (0.93, 0.90, 0.76))
    pen.line((0, 0), (0, high), 0.17, 'lamp pole', metal)
    pen.rect((-0.2, 0, 0.2, 0.4), 'lamp pole', metal)
    if rng.random() < 0.5:
        pen.line((0, high), (1.0, high + 0.15), 0.15, 'lamp pole', metal)
        head = [(0.6, high - 0.15), (1.6, high - 0.1), (1.45, high + 0.32), (0.75, high + 0.3)]
    else:
        head = [(-0.2, high - 0.1), (0.2, high - 0.1), (0.42, high + 0.6), (-0.42, high + 0.6)]
        pen.polygon([(-0.5, high + 0.6), (0.5, high + 0.6), (0, high + 0.95)], 'lamp head', metal)
    pen.polygon(head, 'lamp head', light, emit=1.0)
    return None


def draw_bench(pen: Pen, rng: np.random.Generator) -> str:
    """A bench from the front."""
    name, wood = named(rng, 'brown brown brown green white red')
    legs = one_of(rng, [(0.25, 0.26, 0.28), times(wood, 0.7)])
    boxes = [(-1.05, 0, -0.85, 1.15), (0.85, 0, 1.05, 1.15)]
    pen.rects(boxes, 'bench leg', legs)
    pen.rects(
        [(-1.2, 0.75, 1.2, 0.95), (-1.2, 1.02, 1.2, 1.24)], 'bench seat', wood, texture=grainy
    )
    seat = [(-1.2, 0.62), (1.2, 0.62), (1.3, 0.42), (-1.3, 0.42)]
    pen.polygon(seat, 'bench seat', times(wood, 1.15), texture=grainy)
    return name
