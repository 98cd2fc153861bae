"""A picture of the visual hierarchy that a model finds in an image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.figure import Figure

from .attention import MIN_STRENGTH, TINY, LevelSummary, attention_summary, check_attention
from .colors import tree_colors
from .poincare_disk import draw_poincare_disk

WIDTH = 13.0
DPI = 100
INK = '#222222'
GRAY = '#666666'
ALIKE = 0.05
"""Nodes less distinct than this at every level are said to be alike."""
LEAST_RADIUS = 0.05
"""Least range of the strip of distances: smaller ones are drawn as what they are, next to none."""


def draw_hierarchy(
    image: np.ndarray,
    attention: Sequence[np.ndarray],
    feature_size: tuple[int, int],
    tangents: np.ndarray | None = None,
    curvature: float | None = None,
    segmentation: np.ndarray | None = None,
    classes: Sequence[str] = (),
    palette: Sequence[Sequence[int]] | None = None,
    title: str = '',
    assigned: bool = False,
) -> np.ndarray:
    """Draws an image, its parts level by level, their tree, and the nodes in their space.

    Args:
        image: RGB image of shape `(H, W, 3)`, uint8.
        attention: Attention of the nodes of each level over the feature map, `(N_l, h * w)`, leaves
            first.
        feature_size: Height and width `(h, w)` of the feature map.
        tangents: Nodes lifted to the tangent space at the origin, of shape `(sum(N_l), d)`, leaves
            first; without them there is no disk.
        curvature: `c` of the hyperbolic space of curvature `-c`; None for flat space.
        segmentation: Predicted labels of shape `(H, W)`, integers, or None.
        classes: Names of the labels.
        palette: RGB colors of the labels, 0 to 255; random but fixed ones if None.
        title: What is written above.
        assigned: The attention is an assignment of positions to nodes: its columns sum to 1.

    Returns:
        RGB picture of shape `(height, width, 3)`, uint8.

    Raises:
        TypeError: If `image` is not uint8.
        ValueError: If shapes do not fit each other, or numbers are not finite.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise TypeError(f'image must be uint8, got {image.dtype}')
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f'image must be of shape (H, W, 3), got {image.shape}')
    attention = check_attention(attention, assigned)
    nodes = [len(a) for a in attention]
    height, width = feature_size
    if height * width != attention[0].shape[1]:
        raise ValueError(
            f'feature_size must have as many positions as attention ({attention[0].shape[1]}), '
            f'got {tuple(feature_size)}'
        )
    if tangents is not None and len(tangents) != sum(nodes):
        raise ValueError(
            f'tangents must have a row for each of the {sum(nodes)} nodes, got {len(tangents)}'
        )
    if segmentation is not None and np.shape(segmentation) != image.shape[:2]:
        raise ValueError(
            f'segmentation must be of the shape of the image {image.shape[:2]}, '
            f'got {np.shape(segmentation)}'
        )
    image, segmentation = _fit(image, segmentation)
    summaries = attention_summary(attention, assigned)
    colors = tree_colors(nodes)
    figure, panels, bottom = _layout(image.shape, len(nodes), segmentation is not None, title)

    _show(panels[0], image, 'Image')
    if segmentation is not None:
        _draw_segmentation(panels[1], image, segmentation, classes, palette)
    for k in range(len(nodes)):
        ax = panels[-1 - k]
        part_map = _part_map(image, attention[k], feature_size, colors[k], assigned)
        used = 'in use' if assigned else 'visible'
        note = f'{summaries[k].visible} {used}, {summaries[k].covered:.0%} of image'
        _show(ax, part_map, _level_name(k, nodes), note)

    left, right = bottom, WIDTH - 0.3
    if tangents is not None:
        radii = _draw_space(figure, bottom, tangents, curvature, nodes, colors, summaries)
        right = WIDTH - 5.75
    _draw_tree(_inches(figure, 0.25, 0.95, right - 0.25, left - 1.3), nodes, colors, summaries)
    notes = _notes(summaries)
    if tangents is not None:
        notes += '\n' + _space_notes(radii, curvature)
    figure.text(
        0.25 / WIDTH,
        0.12 / figure.get_figheight(),
        notes,
        fontsize=9.5,
        color=INK,
        va='bottom',
        linespacing=1.45,
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _fit(image: np.ndarray, segmentation: np.ndarray | None, longest: int = 480):
    """Scales image and labels to about the resolution of a panel."""
    scale = longest / max(image.shape[:2])
    size = tuple(max(1, round(scale * n)) for n in image.shape[1::-1])
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    if segmentation is not None:
        labels = np.asarray(segmentation).astype(np.int32)
        segmentation = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    return image, segmentation


def _layout(shape: tuple[int, ...], levels: int, segmented: bool, title: str):
    """Figure, the axes of the top row, and where the lower part ends (inches)."""
    count = levels + 1 + segmented
    gap, margin, lower = 0.14, 0.25, 5.05
    panel = (WIDTH - 2 * margin - (count - 1) * gap) / count
    tall = min(panel * shape[0] / shape[1], 1.5 * panel)
    head = 0.8 if title else 0.45
    height = head + tall + 0.3 + lower
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor='white')
    if title:
        figure.text(0.5, 1 - 0.28 / height, title, fontsize=14, ha='center', va='center', color=INK)
    panels = [
        _inches(figure, margin + i * (panel + gap), lower + 0.3, panel, tall) for i in range(count)
    ]
    return figure, panels, lower


def _inches(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    w, h = figure.get_size_inches()
    return figure.add_axes([x / w, y / h, width / w, height / h])


def _show(ax: Axes, image: np.ndarray, name: str, note: str = '') -> None:
    ax.imshow(image, interpolation='bilinear')
    ax.set_title(name, fontsize=11, color=INK, pad=4)
    ax.set_xlabel(note, fontsize=9, color=GRAY, labelpad=3)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_color('#888888')


def _level_name(level: int, nodes: Sequence[int]) -> str:
    name = 'Leaves' if level == 0 else f'Level {level + 1}'
    if level == len(nodes) - 1 and level > 0:
        name = 'Top level'
    return f'{name}: {nodes[level]} node{"s" * (nodes[level] > 1)}'


def _part_map(
    image: np.ndarray,
    attention: np.ndarray,
    feature_size: tuple[int, int],
    colors: np.ndarray,
    assigned: bool,
) -> np.ndarray:
    """The image in the colors of the nodes that look at each position most.

    It is gray where no node looks (the color is half there at `MIN_STRENGTH` of even attention),
    and where all nodes look alike.
    """
    maps = (attention * attention.shape[0 if assigned else 1]).reshape(-1, *feature_size)
    size = image.shape[1::-1]
    maps = np.stack([cv2.resize(m, size, interpolation=cv2.INTER_LINEAR) for m in maps])
    winner, strength = maps.argmax(0), maps.max(0)
    sure = (
        1 - maps.mean(0) / np.maximum(strength, TINY) if len(maps) > 1 else np.full(size[::-1], 0.5)
    )
    sure /= 1 - 1 / max(len(maps), 2)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None] / 255
    seen = (sure * strength / (strength + MIN_STRENGTH))[..., None]
    picture = seen * colors[winner] * (0.6 + 0.4 * gray) + (1 - seen) * (0.25 + 0.6 * gray)
    kernel = np.ones((2, 2))
    border = cv2.morphologyEx(winner.astype(np.float32), cv2.MORPH_GRADIENT, kernel) > 0
    border &= seen[..., 0] > 0.5
    picture[border] = 1
    return (255 * picture).round().astype(np.uint8)


def _draw_segmentation(
    ax: Axes,
    image: np.ndarray,
    segmentation: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None,
) -> None:
    count = max(int(segmentation.max()) + 1, len(classes), 256)
    table = np.random.default_rng(0).integers(40, 230, (count, 3))
    if palette is not None:
        table[: len(palette)] = palette
    _show(ax, (0.3 * image + 0.7 * table[segmentation]).astype(np.uint8), 'Prediction')
    _name_regions(ax, segmentation, classes)


def _name_regions(ax: Axes, segmentation: np.ndarray, classes: Sequence[str]) -> None:
    """Writes the names of the labels where they have most room, if they have enough."""
    per_inch = segmentation.shape[1] * DPI / ax.get_window_extent().width
    style = dict(fontsize=8.5, ha='center', va='center', color='white')
    style['path_effects'] = [patheffects.withStroke(linewidth=2, foreground=INK)]
    spots = []
    for label in np.unique(segmentation):
        mask = np.pad((segmentation == label).astype(np.uint8), 1)
        room = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
        if label < len(classes) and room.max() > 0.055 * max(segmentation.shape):
            y, x = np.unravel_index(room.argmax(), room.shape)
            spots.append((room.max(), x - 1, y - 1, classes[label]))
    taken: list[tuple[float, float, float]] = []
    for _, x, y, name in sorted(spots, reverse=True):
        half = 0.04 * len(name) * per_inch
        x = np.clip(x, half, max(half, segmentation.shape[1] - half))
        clear = (abs(x - u) > half + v or abs(y - w) > 0.14 * per_inch for u, w, v in taken)
        if all(clear):
            ax.text(x, y, name, **style)
            taken.append((x, y, half))


def _draw_tree(
    ax: Axes, nodes: Sequence[int], colors: list[np.ndarray], summaries: list[LevelSummary]
) -> None:
    """The tree from the top to the leaves; circle areas are shares of the image, level by level."""
    box = ax.get_window_extent()
    width, height = box.width / DPI, box.height / DPI
    label = 1.25
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.axis('off')
    name = 'Tree of parts'
    if max(s.distinctness for s in summaries) < ALIKE:
        name += ' (its nodes are all but alike: shares say little)'
    ax.text(0, height, name, fontsize=11, color=INK, va='bottom')
    xs = [label + (np.arange(n) + 0.5) * (width - label) / n for n in nodes]
    row = height / len(nodes)
    ys = [(k + 0.5) * row for k in range(len(nodes))]
    for k, (x, y) in enumerate(zip(xs[:-1], ys)):
        above = np.repeat(xs[k + 1], nodes[k] // nodes[k + 1])
        edges = [[(x0, y), (x1, ys[k + 1])] for x0, x1 in zip(x, above)]
        widths = np.where(summaries[k].shares > 0, 1.6, 0.7)
        ax.add_collection(LineCollection(edges, colors=colors[k], linewidths=widths, zorder=1))
    for k, (x, y) in enumerate(zip(xs, ys)):
        shares = summaries[k].shares
        size = _circle_sizes(shares, x, 0.9 * row)
        seen = (shares > 0)[:, None]
        circles = EllipseCollection(
            size,
            size,
            np.zeros(len(x)),
            units='xy',
            offsets=np.stack([x, np.full(len(x), y)], 1),
            transOffset=ax.transData,
            facecolors=np.where(seen, colors[k], 1.0),
            edgecolors=np.where(seen, [[0.2, 0.2, 0.2]], [[0.6, 0.6, 0.6]]),
            linewidths=0.6,
            zorder=2,
            clip_on=False,
        )
        ax.add_collection(circles)
        name, count = _level_name(k, nodes).split(': ')
        ax.text(0, y, f'{name}\n{count}', fontsize=9.5, color=INK, va='center')
        style = dict(fontsize=8, ha='center', va='center', color=INK, zorder=3)
        for i in np.flatnonzero(size > 0.38):
            ax.text(x[i], y, f'{shares[i]:.0%}', **style)


def _circle_sizes(shares: np.ndarray, x: np.ndarray, tallest: float) -> np.ndarray:
    """Diameters of circles whose areas go by share, as large as they can be without overlap."""
    root = np.sqrt(shares)
    if not root.any():
        return np.full(len(x), 0.06)
    scale = tallest / root.max()
    if len(x) > 1:
        room = (x[1] - x[0] - 0.05) / np.maximum((root[1:] + root[:-1]) / 2, 1e-9)
        scale = min(scale, room.min())
    return np.where(shares > 0, np.maximum(scale * root, 0.09), 0.06)


def _draw_space(
    figure: Figure,
    bottom: float,
    tangents: np.ndarray,
    c: float | None,
    nodes: Sequence[int],
    colors: list[np.ndarray],
    summaries: list[LevelSummary],
) -> list[np.ndarray]:
    """The disk, and the distances from its center by level; returns the distances."""
    size = bottom - 1.3
    starts = np.cumsum([0, *nodes])
    parents: list[int | None] = [
        int(starts[k + 1] + i // (nodes[k] // nodes[k + 1])) if k + 1 < len(nodes) else None
        for k in range(len(nodes))
        for i in range(nodes[k])
    ]
    sizes = np.concatenate([np.full(n, 22.0 + 40 * k) for k, n in enumerate(nodes)])
    disk = _inches(figure, WIDTH - 5.45, 0.95, size, size)
    draw_poincare_disk(disk, tangents, c, np.concatenate(colors), parents, sizes)
    name = 'Nodes in flat space' if c is None else 'Nodes on the Poincar\u00e9 disk'
    disk.set_title(name, fontsize=11, color=INK, pad=2)

    radius = np.linalg.norm(np.asarray(tangents, dtype=np.float64), axis=1)
    radius = radius if c is None else radius * c**0.5
    radii = np.split(radius, starts[1:-1])
    strip = _inches(figure, WIDTH - 1.35, 1.45, 1.1, size - 0.6)
    for k, (r, color) in enumerate(zip(radii, colors)):
        spread = np.linspace(-0.28, 0.28, len(r)) if len(r) > 1 else np.zeros(1)
        strip.scatter(k + spread, r, s=20, c=color, edgecolors='#333333', linewidths=0.4, zorder=2)
        strip.plot([k - 0.38, k + 0.38], [r.mean()] * 2, color=INK, lw=1.2, zorder=1)
    strip.set_title('Distance from\nthe center', fontsize=9.5, color=INK, pad=4)
    strip.set(xticks=range(len(nodes)), xticklabels=[str(n) for n in nodes])
    strip.set(xlim=(len(nodes) - 0.4, -0.6), ylim=(0, 1.1 * max(radius.max(), LEAST_RADIUS)))
    strip.set_xlabel('nodes of the level', fontsize=8.5, color=GRAY, labelpad=2)
    strip.tick_params(labelsize=8.5, colors=GRAY, length=2)
    strip.grid(axis='y', color='#e5e5e5', lw=0.7)
    strip.spines[['top', 'right']].set_visible(False)
    return radii


def _notes(summaries: list[LevelSummary]) -> str:
    """The legend, and figures from the top to the leaves."""
    top_down = summaries[::-1]
    distinct = ', '.join(f'{s.distinctness:.2f}' for s in top_down)
    nested = ', '.join(f'{s.nested:.0%}' for s in top_down if s.nested is not None)
    text = (
        'A position has the color of the node that looks at it most; gray: no node looks, or all '
        'alike. Children are shades of the hue of their parent.\n'
        'Circles of a level: share of the image. '
        f'Do nodes look at different things? (0 = all alike, 1 = separate parts)  {distinct}.'
    )
    return text + (f'  Within the part of their parent: {nested}.' if nested else '')


def _space_notes(radii: list[np.ndarray], c: float | None) -> str:
    means = ', '.join(f'{r.mean():.2f}' for r in radii[::-1])
    if c is None:
        return f'Flat space (no curvature). Mean distance from the center, top to leaves: {means}.'
    return (
        f'Curvature \u2212{c:.3g}. Mean distance from the center, top to leaves: {means}. '
        'That distance is exact on the disk (dotted circles), the angle a summary.'
    )
