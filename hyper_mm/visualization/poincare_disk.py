"""Points of hyperbolic space on the Poincare disk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle

from hyper_mm.deprecation import renamed_arguments

TICK_RADII = (1, 2, 3, 5)


def planar_directions(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors of the plane that follow the main differences of direction of the given vectors.

    Args:
        vectors: Shape `(n, d)`.

    Returns:
        Shape `(n, 2)`: the first two principal components of the directions, each of length 1.
    """
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1)
    centered = unit - unit.mean(0)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    axes = axes[:2]
    # the sign of a principal axis is arbitrary: make its largest entry positive
    axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1))
    plane = np.zeros((len(vectors), 2))
    plane[:, : len(axes)] = centered @ axes.T
    length = np.linalg.norm(plane, axis=-1, keepdims=True)
    return np.where(length > 1e-9, plane / np.where(length > 1e-9, length, 1), [1.0, 0.0])


def flatten_tangents(tangents: np.ndarray, c: float) -> np.ndarray:
    r"""Brings points to the unit disk: their radius is exact, their angle a summary.

    A tangent vector ``u`` lies at :math:`\tanh(\sqrt c \lVert u \rVert / 2)` from the center.

    Args:
        tangents: Tangent vectors at the origin of the hyperboloid, of shape `(n, d)`.
        c: The curvature is `-c`.

    Returns:
        Shape `(n, 2)`, within the unit disk.
    """
    radius = np.linalg.norm(tangents, axis=-1, keepdims=True)
    return np.tanh(c**0.5 * radius / 2) * planar_directions(tangents)


def geodesic(start: np.ndarray, end: np.ndarray, steps: int = 24) -> np.ndarray:
    """The shortest path between two points of the unit disk.

    Args:
        start: Shape `(2,)`.
        end: Shape `(2,)`.
        steps: Number of points.

    Returns:
        Shape `(steps, 2)`.
    """
    a, b = (complex(*z) * (1 - 1e-9) for z in (start, end))  # off the rim, where it has no path
    ray = (b - a) / (1 - a.conjugate() * b)  # the end, seen from the start: straight on
    length = np.arctanh(min(abs(ray), 1 - 1e-12))
    ray = ray / abs(ray) if ray else ray
    z = np.tanh(length * np.linspace(0, 1, steps)) * ray
    z = (a + z) / (1 + a.conjugate() * z)
    return np.stack([z.real, z.imag], -1)


@renamed_arguments(colours='colors')
def draw_poincare_disk(
    ax: Axes,
    tangents: np.ndarray,
    c: float | None,
    colors: np.ndarray,
    parents: Sequence[int | None] | None = None,
    sizes: np.ndarray | float = 40.0,
) -> np.ndarray:
    """Draws points on the Poincare disk, with geodesics to their parents.

    Args:
        ax: Axes to draw on.
        tangents: Tangent vectors at the origin of the hyperboloid, of shape `(n, d)`.
        c: The curvature is `-c`; None for flat space: points without the disk.
        colors: sRGB colors, of shape `(n, 3)`.
        parents: Index of the parent of each point, or None for those without.
        sizes: Area of the markers in square points.

    Returns:
        The points on the disk, of shape `(n, 2)`.

    Raises:
        ValueError: If `tangents` is no matrix of finite numbers, or `c` is not positive.
    """
    tangents = np.asarray(tangents, dtype=np.float64)
    if tangents.ndim != 2 or not np.isfinite(tangents).all():
        raise ValueError(
            f'tangents must be finite, of shape (n, d), got shape {tangents.shape} with '
            f'{int((~np.isfinite(tangents)).sum())} numbers that are not finite'
        )
    if c is not None and not c > 0:
        raise ValueError(f'c must be positive, or None for flat space, got {c}')
    if c is None:
        points = np.linalg.norm(tangents, axis=-1, keepdims=True) * planar_directions(tangents)
        limit = 1.08 * max(np.abs(points).max(), 1e-9)
        ticks = [(r, f'{r:.2g}') for r in (limit / 2.16, limit / 1.08)]
    else:
        points = flatten_tangents(tangents, c)
        limit = 1.08
        ax.add_patch(Circle((0, 0), 1, facecolor='#f7f7f5', edgecolor='#444444', lw=1.4, zorder=0))
        ticks = [(np.tanh(r / 2), str(r)) for r in TICK_RADII]
    _circles(ax, ticks, _emptiest_direction(points))
    ax.plot(0, 0, '+', color='#888888', ms=7, zorder=1)
    edges = [(i, parent) for i, parent in enumerate(parents or ()) if parent is not None]
    path = geodesic if c is not None else lambda start, end: np.stack([start, end])
    paths = [path(points[parent], points[child]) for child, parent in edges]
    shades = [colors[child] for child, _ in edges]
    ax.add_collection(LineCollection(paths, colors=shades, lw=0.9, alpha=0.75, zorder=2))
    sizes = np.broadcast_to(sizes, len(points))
    order = np.argsort(-sizes, kind='stable')  # small ones on top
    style = dict(edgecolors='#333333', linewidths=0.5, zorder=3)
    ax.scatter(*points[order].T, s=sizes[order], c=colors[order], **style)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect='equal')
    ax.axis('off')
    return points


def _emptiest_direction(points: np.ndarray) -> np.ndarray:
    """The direction `(2,)` that is farthest from all points, for labels."""
    angles = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    candidates = np.stack([np.cos(angles), np.sin(angles)], -1)
    lengths = np.linalg.norm(points, axis=-1, keepdims=True)
    closeness = candidates @ (points / np.maximum(lengths, 1e-9)).T
    return candidates[closeness.max(1).argmin()]


def _circles(ax: Axes, radii: list[tuple[float, str]], direction: np.ndarray) -> None:
    style = dict(fontsize=7.5, color='#777777', ha='center', va='center', zorder=1)
    for radius, label in radii:
        ax.add_patch(Circle((0, 0), radius, fill=False, ec='#bbbbbb', lw=0.7, ls=':', zorder=1))
        box = dict(boxstyle='round,pad=0.1', fc='#f7f7f5', ec='none')
        ax.text(*(radius * direction), label, bbox=box, **style)
