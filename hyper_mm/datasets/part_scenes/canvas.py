"""A canvas that draws the image and its label maps with the same strokes.

Shapes are filled at twice the resolution. The image is then averaged down, which anti-aliases
it, while the labels are sampled, which keeps them crisp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from .taxonomy import PART_IDS

Color = tuple[float, float, float]
"""RGB, each in [0, 1]."""
Point = tuple[float, float]
Texture = Callable[[np.ndarray, np.ndarray, float, np.ndarray], np.ndarray]
"""Maps (dx, dy, pixels per meter, noise) to a brightness factor per pixel."""

SUPERSAMPLE = 2
_SUBPIXEL_BITS = 4


def plain(dx: np.ndarray, dy: np.ndarray, scale: float, noise: np.ndarray) -> np.ndarray:
    """A surface with hardly any grain."""
    return 1 + 0.02 * noise


def grainy(dx: np.ndarray, dy: np.ndarray, scale: float, noise: np.ndarray) -> np.ndarray:
    """A rough surface: grass, asphalt, sand, fur."""
    return 1 + 0.09 * noise


def leafy(dx: np.ndarray, dy: np.ndarray, scale: float, noise: np.ndarray) -> np.ndarray:
    """Foliage: strong blotches."""
    return 1 + 0.2 * noise


def bricks(dx: np.ndarray, dy: np.ndarray, scale: float, noise: np.ndarray) -> np.ndarray:
    """Courses of bricks, shifted by half a brick from row to row."""
    height = max(0.34 * scale, 6.0)
    row, across = dy / height, dx / (2.2 * height)
    across = across + 0.5 * (np.floor(row) % 2)
    joint = (row % 1 < 0.22) | (across % 1 < 0.12)
    return 1 - 0.2 * joint + 0.04 * noise


def boards(dx: np.ndarray, dy: np.ndarray, scale: float, noise: np.ndarray) -> np.ndarray:
    """Horizontal boards."""
    period = max(0.45 * scale, 5.0)
    return 1 - 0.16 * (dy / period % 1 < 0.3) + 0.02 * noise + 0 * dx


def stripes(dx: np.ndarray, dy: np.ndarray, scale: float, noise: np.ndarray) -> np.ndarray:
    """Broad vertical stripes."""
    period = max(0.3 * scale, 5.0)
    return 1 - 0.3 * (dx / period % 1 < 0.5) + 0.02 * noise + 0 * dy


def tiles(dx: np.ndarray, dy: np.ndarray, scale: float, noise: np.ndarray) -> np.ndarray:
    """Roof tiles: a grid of rows and columns."""
    period = max(0.4 * scale, 5.0)
    return 1 - 0.18 * (dy / period % 1 < 0.35) - 0.08 * (dx / period % 1 < 0.3) + 0.03 * noise


class Canvas:
    """Image, part labels, instance ids and emitted light of one picture.

    Args:
        size: Height and width of the final picture in pixels.
        rng: Source of the grain.
        light: Horizontal direction the light comes from, -1 (left) to 1 (right).
        haze: Color of far-away things.
        night: Whether windows and lamps are lit.
    """

    def __init__(
        self,
        size: tuple[int, int],
        rng: np.random.Generator,
        light: float = 0.0,
        haze: Color = (0.8, 0.85, 0.9),
        night: bool = False,
    ) -> None:
        self.height, self.width = size
        shape = (SUPERSAMPLE * size[0], SUPERSAMPLE * size[1])
        self.image = np.zeros((*shape, 3), np.float32)
        self._strokes = np.zeros(shape, np.int32)
        self._stroke_list: list[tuple[int, int, float]] = [(0, 0, 0.0)]
        self.light, self.haze, self.night = light, haze, night
        grain = rng.standard_normal(shape, dtype=np.float32)
        coarse = rng.standard_normal((shape[0] // 6, shape[1] // 6), dtype=np.float32)
        blotches = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR)
        self.noise = 0.4 * grain + 0.8 * blotches

    def fill(
        self,
        contours: Sequence[np.ndarray],
        label: int,
        instance: int,
        color: Color,
        texture: Texture = plain,
        origin: Point = (0.0, 0.0),
        scale: float = 1.0,
        shading: float = 0.0,
        emit: float = 0.0,
    ) -> None:
        """Fill polygons (even-odd rule) in the image and in every map.

        Args:
            contours: Arrays of shape (N, 2), x and y in pixels of the enlarged canvas.
            label: Part label.
            instance: Instance id; 0 for stuff and void.
            color: RGB in [0, 1].
            texture: Brightness pattern.
            origin: Point of the enlarged canvas that the pattern is fixed to.
            scale: Pixels per meter, the size of the pattern.
            shading: How much brighter the lit side is than the other.
            emit: Share of light the surface gives off by itself, 0 to 1.
        """
        window = self._window(contours)
        if window is None:
            return
        (x0, y0, x1, y1), inside = window
        dx = np.arange(x0, x1, dtype=np.float32) - np.float32(origin[0])
        dy = np.float32(origin[1]) - np.arange(y0, y1, dtype=np.float32)[:, None]
        area = (slice(y0, y1), slice(x0, x1))
        factor = texture(dx, dy, scale, self.noise[area])
        if shading:
            side = (dx - dx[0]) * np.float32(2 * shading * self.light / (x1 - x0))
            up = (dy - dy[-1]) * np.float32(shading / (y1 - y0))
            factor = factor * (np.float32(1 - shading * (self.light + 0.5)) + side + up)
        pixels = factor[..., None] * np.asarray(color, np.float32)
        np.copyto(self.image[area], pixels, where=inside[..., None])
        np.copyto(self._strokes[area], len(self._stroke_list), where=inside)
        self._stroke_list.append((label, instance, emit))

    def maps(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return part labels (uint8), instance ids (int32) and emission (float32), enlarged."""
        parts, instances, emission = zip(*self._stroke_list)
        return (
            np.array(parts, np.uint8)[self._strokes],
            np.array(instances, np.int32)[self._strokes],
            np.array(emission, np.float32)[self._strokes],
        )

    def darken(self, contours: Sequence[np.ndarray], factor: float) -> None:
        """Multiply the brightness inside polygons, leaving the labels alone."""
        window = self._window(contours)
        if window is not None:
            (x0, y0, x1, y1), inside = window
            self.image[y0:y1, x0:x1][inside] *= factor

    def _window(self, contours):
        """Bounding box of the visible part of polygons and their mask in it, if any."""
        points = np.concatenate(contours)
        limit = self._strokes.shape[::-1]
        x0, y0 = (max(int(v), 0) for v in np.floor(points.min(axis=0)))
        x1, y1 = (min(int(v) + 1, top) for v, top in zip(np.ceil(points.max(axis=0)), limit))
        if x1 <= x0 or y1 <= y0:
            return None
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = [np.rint((c - (x0, y0)) * 2**_SUBPIXEL_BITS).astype(np.int32) for c in contours]
        cv2.fillPoly(mask, fixed, 1, shift=_SUBPIXEL_BITS)
        return (x0, y0, x1, y1), mask.view(bool)

    def develop(
        self, tint: Color, noise: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Apply the lighting and scale everything down to the final size.

        Args:
            tint: Color of the ambient light; surfaces that emit light do not need it.
            noise: Standard deviation of the sensor noise, in units of the full range.
            rng: Source of the sensor noise.

        Returns:
            Image (H, W, 3) uint8, part labels (H, W) uint8 and instance ids (H, W) int32.
        """
        size = (self.width, self.height)
        image = cv2.resize(self.image, size, interpolation=cv2.INTER_AREA)
        parts, instances, emission = self.maps()
        emission = cv2.resize(emission, size, interpolation=cv2.INTER_AREA)[..., None]
        ambient = np.asarray(tint, np.float32)
        glow = cv2.GaussianBlur(image * emission, (0, 0), self.height / 24)
        image = image * np.maximum(ambient, emission) + 0.8 * glow * self.night
        image += noise * rng.standard_normal(image.shape, dtype=np.float32)
        center = slice(SUPERSAMPLE // 2, None, SUPERSAMPLE)
        return (
            np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8),
            parts[center, center].copy(),
            instances[center, center].copy(),
        )


class Pen:
    """Draws one object in meters: origin at its foot, x to its front, y up.

    Args:
        canvas: Where to draw.
        foot: x and y of the origin, in pixels of the final picture.
        scale: Pixels of the final picture per meter.
        instance: Id of the object; 0 for stuff.
        flip: Whether the front points left.
        haze: Share of haze in the colors, 0 to 1.
    """

    def __init__(
        self,
        canvas: Canvas,
        foot: Point,
        scale: float,
        instance: int = 0,
        flip: bool = False,
        haze: float = 0.0,
    ) -> None:
        self.canvas, self.instance = canvas, instance
        self.origin = (SUPERSAMPLE * foot[0], SUPERSAMPLE * foot[1])
        self.scale = SUPERSAMPLE * scale
        self._axes = np.array([-self.scale if flip else self.scale, -self.scale])
        self._haze = haze

    @property
    def night(self) -> bool:
        """Whether windows and lamps are lit."""
        return self.canvas.night

    def polygons(
        self,
        contours: Sequence[Sequence[Point]],
        part: str | None,
        color: Color,
        texture: Texture = plain,
        shading: float = 0.1,
        emit: float = 0.0,
    ) -> None:
        """Fill polygons given in meters with a part's label (None: void)."""
        if not contours:
            return
        mixed = tuple(
            (1 - self._haze) * c + self._haze * h for c, h in zip(color, self.canvas.haze)
        )
        self.canvas.fill(
            [np.asarray(c, float) * self._axes + self.origin for c in contours],
            PART_IDS[part] if part else 0,
            self.instance if part else 0,
            mixed,
            texture,
            self.origin,
            self.scale,
            shading,
            emit,
        )

    def polygon(self, points: Sequence[Point], part: str | None, color: Color, **style) -> None:
        """Fill one polygon."""
        self.polygons([points], part, color, **style)

    def rects(
        self, boxes: Sequence[Sequence[float]], part: str | None, color: Color, **style
    ) -> None:
        """Fill rectangles (x0, y0, x1, y1) that do not overlap."""
        corners = [[(a, b), (c, b), (c, d), (a, d)] for a, b, c, d in boxes]
        self.polygons(corners, part, color, **style)

    def rect(self, box: Sequence[float], part: str | None, color: Color, **style) -> None:
        """Fill one rectangle (x0, y0, x1, y1)."""
        self.rects([box], part, color, **style)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, part: str | None, color: Color, **style
    ) -> None:
        """Fill an ellipse with axes along x and y."""
        self.polygon(circle_points(x, y, rx, ry), part, color, **style)

    def ring(
        self, x: float, y: float, radius: float, width: float, part: str, color: Color, **style
    ) -> None:
        """Fill a ring of the given outer radius."""
        inner = max(radius - self.at_least(width), 0.0)
        contours = [circle_points(x, y, radius, radius), circle_points(x, y, inner, inner)]
        self.polygons(contours, part, color, **style)

    def line(
        self, start: Point, end: Point, width: float, part: str | None, color: Color, **style
    ) -> None:
        """Fill a straight stroke, at least one final pixel wide."""
        a, b = np.asarray(start, float), np.asarray(end, float)
        along = (b - a) / max(np.hypot(*(b - a)), 1e-6)
        across = 0.5 * self.at_least(width) * np.array([-along[1], along[0]])
        self.polygon([a + across, b + across, b - across, a - across], part, color, **style)

    def at_least(self, width: float) -> float:
        """The width in meters, or one final pixel where that is wider."""
        return max(width, SUPERSAMPLE / self.scale)

    def shadow(self, width: float) -> None:
        """Darken the ground around the foot, away from the light."""
        shift = -0.25 * width * self.canvas.light * np.sign(self._axes[0])
        points = circle_points(shift, 0.0, 0.6 * width, 0.1 * width)
        self.canvas.darken([np.asarray(points) * self._axes + self.origin], 0.72)


def circle_points(x: float, y: float, rx: float, ry: float, count: int = 24) -> list[Point]:
    """Corners of a polygon that stands for an ellipse."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return list(zip(x + rx * np.cos(angles), y + ry * np.sin(angles)))
