"""What several things have in common: named colors, how they vary, and windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .canvas import Color, Pen

COLORS: dict[str, Color] = {
    'red': (0.78, 0.20, 0.16),
    'orange': (0.90, 0.50, 0.16),
    'yellow': (0.93, 0.80, 0.32),
    'green': (0.30, 0.56, 0.30),
    'blue': (0.22, 0.40, 0.74),
    'purple': (0.50, 0.32, 0.62),
    'pink': (0.92, 0.60, 0.66),
    'brown': (0.50, 0.33, 0.20),
    'white': (0.92, 0.91, 0.87),
    'grey': (0.58, 0.59, 0.61),
    'black': (0.16, 0.16, 0.18),
}
GLASS = ((0.55, 0.70, 0.80), (0.28, 0.36, 0.46), (0.70, 0.80, 0.86))
LIT: Color = (1.0, 0.85, 0.50)
RUBBER: Color = (0.13, 0.13, 0.14)


def vary(rng: np.random.Generator, color: Color, amount: float = 0.05) -> Color:
    """Return a color near the given one, within [0, 1]."""
    brightness = 1 + rng.uniform(-2, 2) * amount
    shifted = [c * brightness + rng.uniform(-amount, amount) for c in color]
    return tuple(float(np.clip(c, 0.02, 0.98)) for c in shifted)


def named(rng: np.random.Generator, names: str) -> tuple[str, Color]:
    """Choose one of the space-separated color names; return it and a variation of its color."""
    name = str(rng.choice(names.split()))
    return name, vary(rng, COLORS[name])


def one_of(rng: np.random.Generator, options: Sequence):
    """Choose one of the options."""
    return options[int(rng.integers(len(options)))]


def times(color: Color, factor: float) -> Color:
    """Return a color made darker (factor below 1) or lighter."""
    return tuple(min(c * factor, 1.0) for c in color)


def windows(pen: Pen, rng: np.random.Generator, part: str, boxes, frame: Color) -> None:
    """Draw framed windows (x0, y0, x1, y1); at night some of them are lit."""
    glass = vary(rng, one_of(rng, GLASS))
    lit = rng.random(len(boxes)) < 0.55 * pen.night
    edge = 0.1 * (boxes[0][2] - boxes[0][0])
    panes = [(a + edge, b + edge, c - edge, d - edge) for a, b, c, d in boxes]
    pen.rects(boxes, part, frame)
    pen.rects([p for p, on in zip(panes, lit) if not on], part, glass, shading=0.0)
    pen.rects([p for p, on in zip(panes, lit) if on], part, LIT, emit=0.9)
