"""People, dogs, trees and bushes."""

from __future__ import annotations

import numpy as np

from .canvas import Color, Pen, boards, circle_points, grainy, leafy, plain, stripes
from .common import COLORS, RUBBER, named, one_of, times, vary

_SKIN = ((0.95, 0.78, 0.66), (0.84, 0.62, 0.46), (0.60, 0.41, 0.28), (0.38, 0.25, 0.17))
_HAIR = ((0.15, 0.11, 0.09), (0.40, 0.25, 0.12), (0.80, 0.65, 0.35), (0.60, 0.58, 0.56))


def draw_person(pen: Pen, rng: np.random.Generator) -> str:
    """A standing or walking person, seen from the front."""
    name, shirt = named(rng, 'red orange yellow green blue purple pink white black')
    trousers = vary(rng, one_of(rng, [COLORS[n] for n in ('blue', 'black', 'grey', 'brown')]))
    skin, hair = vary(rng, one_of(rng, _SKIN), 0.03), vary(rng, one_of(rng, _HAIR), 0.03)
    stride, swing = rng.uniform(0.02, 0.22), rng.uniform(0.05, 0.35)
    for side, shade in ((-1, 0.85), (1, 1.0)):
        foot = (side * (0.12 + stride), 0.06)
        bare = rng.random() < 0.15
        color = times(skin if bare else trousers, shade)
        pen.line((side * 0.13, 0.95), foot, 0.25, 'person leg', color)
        pen.ellipse(foot[0] + 0.06, 0.08, 0.2, 0.09, 'person leg', RUBBER)
    sleeve = times(shirt, 0.85)
    for side in (-1, 1):
        hand = (side * (0.36 + swing), 0.85 + 0.3 * swing + 0.5 * (rng.random() < 0.12))
        pen.line((side * 0.3, 1.5), hand, 0.19, 'person arm', sleeve)
        pen.ellipse(*hand, 0.1, 0.1, 'person arm', skin)
    hem = 0.45 if rng.random() < 0.5 else 0.3
    torso = [(-0.33, 1.6), (0.33, 1.6), (hem * 0.9, 0.85), (-hem * 0.9, 0.85)]
    pen.polygon(torso, 'person torso', shirt, texture=one_of(rng, [plain, plain, stripes, boards]))
    if rng.random() < 0.35:
        pen.rect((-0.3, 1.3, 0.3, 1.95), 'person head', hair)
    pen.ellipse(0, 1.86, 0.25, 0.3, 'person head', skin, shading=0.15)
    cap = hair if rng.random() < 0.7 else named(rng, 'red blue yellow green')[1]
    crown = [p for p in circle_points(0, 1.9, 0.28, 0.31) if p[1] >= 1.9]
    pen.polygon(crown, 'person head', cap)
    return name


def draw_dog(pen: Pen, rng: np.random.Generator) -> str:
    """A dog from the side."""
    name, coat = named(rng, 'brown brown black white grey orange')
    dark, stride = times(coat, 0.8), rng.uniform(0.0, 0.12)
    pen.line((-0.5, 0.72), (-0.85, rng.uniform(0.75, 1.15)), 0.17, 'dog tail', dark)
    for x, shade, shift in ((-0.42, 0.7, 1), (0.32, 0.7, 1), (-0.3, 0.95, -1), (0.42, 0.95, -1)):
        hip = (x, 0.6)
        pen.line(hip, (x + shift * stride, 0), 0.16, 'dog leg', times(coat, shade))
    pen.ellipse(0, 0.65, 0.6, 0.27, 'dog body', coat, texture=grainy, shading=0.15)
    if rng.random() < 0.3:
        pen.ellipse(-0.1, 0.7, 0.22, 0.15, 'dog body', vary(rng, COLORS['white']))
    pen.line((0.4, 0.7), (0.62, 0.98), 0.26, 'dog head', coat)
    pen.ellipse(0.66, 1.02, 0.27, 0.23, 'dog head', coat)
    pen.ellipse(0.9, 0.96, 0.17, 0.11, 'dog head', times(coat, 1.1))
    pen.ellipse(1.02, 0.99, 0.06, 0.05, 'dog head', RUBBER)
    pen.polygon([(0.45, 1.2), (0.62, 1.18), (0.5, 0.85)], 'dog head', dark)
    return name


def draw_tree(pen: Pen, rng: np.random.Generator) -> None:
    """A broad-leaved tree, a poplar or a fir."""
    kind, high = one_of(rng, ['round', 'round', 'poplar', 'fir']), rng.uniform(3.6, 5.6)
    green = vary(rng, one_of(rng, [(0.20, 0.45, 0.18), (0.35, 0.53, 0.20), (0.15, 0.36, 0.22)]))
    if kind == 'round' and rng.random() < 0.25:
        green = vary(rng, one_of(rng, [(0.80, 0.45, 0.15), (0.65, 0.28, 0.15), (0.93, 0.66, 0.74)]))
    bark = vary(rng, one_of(rng, [(0.38, 0.26, 0.17), (0.48, 0.40, 0.33)]))
    trunk = [(-0.26, 0), (0.26, 0), (0.15, 0.6 * high), (-0.15, 0.6 * high)]
    pen.polygon(trunk, 'tree trunk', bark, texture=grainy, shading=0.25)
    style = {'texture': leafy, 'shading': 0.22}
    if kind == 'fir':
        for k in range(3):
            low, half = (0.2 + 0.23 * k) * high, 0.3 * high * (1 - 0.26 * k)
            tip = (0, low + 0.4 * high)
            pen.polygon([(-half, low), (half, low), tip], 'tree crown', times(green, 0.85), **style)
    elif kind == 'poplar':
        pen.ellipse(0, 0.62 * high, 0.19 * high, 0.42 * high, 'tree crown', green, **style)
    else:
        _foliage(pen, rng, 'tree crown', green, 0.66 * high, 0.3 * high, 0.24 * high)
    return None


def _foliage(pen: Pen, rng, part: str, green: Color, y: float, rx: float, ry: float) -> None:
    """Overlapping balls of leaves, the lower ones darker."""
    pen.ellipse(0, y, rx, ry, part, times(green, 0.85), texture=leafy, shading=0.2)
    for angle in rng.permutation(6) * np.pi / 3 + rng.uniform(0, 1):
        u, v, size = np.cos(angle), np.sin(angle), rng.uniform(0.45, 0.65)
        color = times(green, 0.95 + 0.12 * v)
        center = (0.6 * rx * u, y + 0.6 * ry * v)
        pen.ellipse(*center, size * rx, size * ry, part, color, texture=leafy, shading=0.15)


def draw_bush(pen: Pen, rng: np.random.Generator) -> None:
    """A bush, mostly in flower."""
    green = vary(rng, one_of(rng, [(0.24, 0.45, 0.20), (0.40, 0.55, 0.24), (0.18, 0.38, 0.24)]))
    half, high = rng.uniform(0.8, 1.3), rng.uniform(0.9, 1.3)
    leaves = [p for p in circle_points(0, 0.25, half, high) if p[1] > 0]
    pen.polygon([*leaves, (-half, 0), (half, 0)], 'bush leaves', times(green, 0.8), texture=leafy)
    _foliage(pen, rng, 'bush leaves', green, 0.55 * high, 0.85 * half, 0.5 * high)
    if rng.random() < 0.75:
        petals = named(rng, 'red yellow pink purple white orange')[1]
        for _ in range(int(rng.integers(5, 10))):
            angle, radius = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
            x, y = (
                0.8 * half * radius * np.cos(angle),
                0.6 * high + 0.5 * high * radius * np.sin(angle),
            )
            size = pen.at_least(rng.uniform(0.12, 0.2))
            pen.ellipse(x, y, size, size, 'bush flower', petals)
    return None
