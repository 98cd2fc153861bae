"""Backgrounds: light of the day, sky, hills and the ground with its roads and waters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas, Color, Pen, grainy
from .common import vary


@dataclass(frozen=True)
class Daylight:
    """Colors of the sky and of the light at a time of day."""

    zenith: Color
    horizon: Color
    cloud: Color
    tint: Color
    clouds: tuple[int, int]
    sun: float
    phrase: str


DAYLIGHTS: dict[str, Daylight] = {
    'day': Daylight(
        (0.32, 0.56, 0.90), (0.76, 0.88, 0.97), (0.97, 0.97, 0.98), (1.0, 1.0, 0.97),
        (0, 4), 0.6, 'on a sunny day',
    ),
    'cloudy': Daylight(
        (0.60, 0.65, 0.71), (0.82, 0.84, 0.87), (0.88, 0.89, 0.91), (0.84, 0.87, 0.92),
        (4, 8), 0.0, 'on a cloudy day',
    ),
    'sunset': Daylight(
        (0.42, 0.40, 0.66), (0.99, 0.68, 0.42), (0.97, 0.70, 0.64), (0.98, 0.80, 0.70),
        (0, 4), 0.9, 'at sunset',
    ),
    'night': Daylight(
        (0.16, 0.19, 0.40), (0.44, 0.46, 0.66), (0.50, 0.52, 0.66), (0.52, 0.56, 0.80),
        (0, 3), 0.0, 'at night',
    ),
}  # fmt: skip

_GROUND_COLORS: dict[str, Color] = {
    'grass': (0.42, 0.62, 0.27),
    'sand': (0.90, 0.80, 0.58),
    'asphalt': (0.38, 0.38, 0.41),
    'pavement': (0.70, 0.67, 0.64),
    'water': (0.28, 0.52, 0.70),
}


@dataclass(frozen=True)
class View:
    """Where the camera stands.

    Attributes:
        size: Height and width of the picture in pixels.
        horizon: Row of the horizon.
        eye_level: Height of the camera above the ground in meters.
    """

    size: tuple[int, int]
    horizon: float
    eye_level: float

    def row(self, depth: float) -> float:
        """Row of the ground at `depth`, 0 at the horizon and 1 at the lower edge."""
        return self.horizon + depth * (self.size[0] - self.horizon)

    def scale(self, row: float) -> float:
        """Pixels per meter for what stands at `row`."""
        return (row - self.horizon) / self.eye_level


def paint_sky(canvas: Canvas, view: View, light: Daylight, rng: np.random.Generator) -> None:
    """Sky from zenith to horizon, sun or moon, clouds, and sometimes unlabeled birds."""
    height, width = view.size
    pen = Pen(canvas, (0, 0), 1.0)
    zenith, horizon = np.array(vary(rng, light.zenith)), np.array(vary(rng, light.horizon, 0.02))
    edges = np.linspace(0, view.horizon + 1, 17)
    for k, (top, low) in enumerate(zip(edges, edges[1:])):
        color = tuple(zenith + (horizon - zenith) * k / 15)
        pen.rect((0, -low - 0.5, width, -top), 'clear sky', color, shading=0.0)

    x = width * (0.5 + 0.42 * canvas.light + rng.uniform(-0.05, 0.05))
    if rng.random() < light.sun:
        low = light.phrase == 'at sunset'
        y = view.horizon * (rng.uniform(0.6, 0.95) if low else rng.uniform(0.15, 0.45))
        size = height * rng.uniform(0.045, 0.07)
        color = (1.0, 0.62, 0.25) if low else (1.0, 0.95, 0.60)
        pen.ellipse(x, -y, size, size, 'sun', color, shading=0.0, emit=0.6)
    elif canvas.night and rng.random() < 0.5:
        y, size = view.horizon * rng.uniform(0.15, 0.4), height * 0.04
        pen.ellipse(x, -y, size, size, None, (0.95, 0.95, 0.88), shading=0.0, emit=0.7)

    for _ in range(int(rng.integers(light.clouds[0], light.clouds[1] + 1))):
        x, y = rng.uniform(0, width), -view.horizon * rng.uniform(0.05, 0.7)
        length, color = height * rng.uniform(0.08, 0.16), vary(rng, light.cloud, 0.02)
        for u, v, size in ((-0.8, 0, 0.6), (0.8, 0, 0.55), (-0.3, 0.3, 0.7), (0.35, 0.25, 0.75)):
            center = (x + u * length, y + 0.45 * v * length)
            rx, ry = size * length, 0.5 * size * length
            pen.ellipse(*center, rx, ry, 'cloud', color, shading=0.05)
    if not canvas.night and rng.random() < 0.3:
        for _ in range(int(rng.integers(1, 5))):
            x, y, span = (
                rng.uniform(0, width),
                -view.horizon * rng.uniform(0.1, 0.6),
                height * 0.022,
            )
            for side in (-1, 1):
                pen.line((x, y), (x + side * span, y + 0.6 * span), 1.0, None, (0.2, 0.2, 0.24))


def paint_hills(canvas: Canvas, view: View, rng: np.random.Generator) -> None:
    """One or two ranges of hazy hills."""
    height, width = view.size
    xs = np.linspace(0, width, 40)
    count = int(rng.integers(1, 3))
    for k in range(count):
        rise = height * rng.uniform(0.06, 0.15) * (1.3 if count - k > 1 else 0.8)
        phase, waves = rng.uniform(0, 6.3, 2), rng.uniform(0.8, 2.4)
        ridge = 0.6 + 0.4 * np.sin(6.3 * waves * xs / width + phase[0])
        ridge = rise * (ridge + 0.15 * np.sin(17 * xs / width + phase[1]))
        pen = Pen(canvas, (0, view.horizon), 1.0, haze=0.5 - 0.25 * k)
        points = [*zip(xs, np.maximum(ridge, 0)), (width, -2), (0, -2)]
        pen.polygon(points, 'hill', vary(rng, (0.34, 0.47, 0.36)), texture=grainy)


def paint_ground(
    canvas: Canvas, view: View, bands: tuple[tuple[str, float], ...], rng: np.random.Generator
) -> None:
    """Bands of ground across the picture, from the horizon down.

    Args:
        canvas: Where to draw.
        view: The camera.
        bands: Pairs of a surface and the depth at which it ends, 0 (horizon) to 1 (lower edge);
            `'road away'` is grass with a road that runs to the horizon, `'path away'` has a path,
            and `'pond'` is grass with a pond.
        rng: Source of the colors.
    """
    height, width = view.size
    start = 0.0
    for name, end in bands:
        surface = {'road': 'asphalt'}.get(name, 'grass' if name not in _GROUND_COLORS else name)
        top, low = view.row(start), view.row(end) + 1
        color = vary(rng, _GROUND_COLORS[surface], 0.04)
        # Strips, each darker than the one behind it, give the band some depth.
        rows = np.linspace(top, low, 3 + round(7 * (end - start)))
        for k, (a, b) in enumerate(zip(rows, rows[1:])):
            strip = tuple((1.06 - 0.16 * k / len(rows)) * c for c in color)
            far = 1 - (a - view.horizon) / (height - view.horizon)
            pen = Pen(canvas, (0, 0), 1.0, haze=0.35 * max(far, 0.0) ** 4)
            pen.rect((0, -b - 0.5, width, -a), surface, strip, texture=grainy, shading=0.05)
        if surface == 'water':
            _ripples(canvas, view, top, low, rng)
        if name == 'road':
            _dashes_across(canvas, view, 0.5 * (start + end), rng)
        elif name in ('road away', 'path away'):
            _way(canvas, view, name == 'road away', rng)
        elif name == 'pond':
            _pond(canvas, view, rng)
        start = end


def _ripples(canvas: Canvas, view: View, top: float, low: float, rng: np.random.Generator) -> None:
    pen = Pen(canvas, (0, 0), 1.0)
    for _ in range(14):
        x, y = rng.uniform(0, view.size[1]), rng.uniform(top + 1.5, low - 1.5)
        length = view.size[0] * rng.uniform(0.03, 0.1) * (0.4 + (y - top) / (low - top))
        color = (0.55, 0.74, 0.86) if rng.random() < 0.6 else (0.22, 0.44, 0.62)
        pen.line((x - length, -y), (x + length, -y), 0.6, 'water', color, shading=0.0)


def _dashes_across(canvas: Canvas, view: View, depth: float, rng: np.random.Generator) -> None:
    """A broken line along the middle of a road that runs across the picture."""
    scale = view.scale(view.row(depth))
    pen = Pen(canvas, (rng.uniform(-3, 0) * scale, view.row(depth)), scale)
    length = view.size[1] / scale + 3
    boxes = [(x, -0.14, x + 1.5, 0.14) for x in np.arange(0, length, 3.0)]
    pen.rects(boxes, 'road marking', vary(rng, (0.90, 0.89, 0.84), 0.03), shading=0.0)


def _way(canvas: Canvas, view: View, road: bool, rng: np.random.Generator) -> None:
    """A road with a broken line, or a path, that runs to the horizon."""
    far, near = rng.uniform(0.25, 0.75), rng.uniform(0.2, 0.8)
    half = (3.4 if road else 1.5) / view.eye_level
    pen = Pen(canvas, (0, view.horizon), 1.0)
    drop = view.size[0] - view.horizon + 2

    def edge(depth: float, side: float) -> tuple[float, float]:
        x = view.size[1] * (far + (near - far) * depth)
        return x + side * half * depth * drop, -depth * drop

    surface = 'asphalt' if road else 'pavement'
    outline = [edge(0, -1), edge(0, 1), edge(1, 1), edge(1, -1)]
    color = vary(rng, _GROUND_COLORS[surface] if road else (0.76, 0.68, 0.54), 0.04)
    pen.polygon(outline, surface, color, texture=grainy)
    if road:
        # Dashes of equal length on the ground: equal steps in 1 / depth.
        steps = [1 / d for d in np.arange(0.9, 12.0, 0.55)]
        dashes = [
            [edge(a, -0.06), edge(a, 0.06), edge(b, 0.06), edge(b, -0.06)]
            for a, b in zip(steps[::2], steps[1::2])
        ]
        pen.polygons(dashes, 'road marking', (0.92, 0.90, 0.84), shading=0.0)


def _pond(canvas: Canvas, view: View, rng: np.random.Generator) -> None:
    height, width = view.size
    x, y = rng.uniform(0.2, 0.8) * width, view.row(rng.uniform(0.25, 0.4))
    rx, ry = rng.uniform(0.22, 0.36) * width, 0.13 * (height - view.horizon)
    pen = Pen(canvas, (0, 0), 1.0)
    pen.ellipse(x, -y, 1.06 * rx, 1.15 * ry, 'grass', vary(rng, (0.50, 0.55, 0.30)), texture=grainy)
    color = vary(rng, _GROUND_COLORS['water'], 0.04)
    pen.ellipse(x, -y, rx, ry, 'water', color, texture=grainy, shading=0.15)
