"""A page on which a person walks through the hierarchies of images, in one file."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import cv2
import numpy as np

from .attention import attention_summary, check_attention
from .colors import tree_colors
from .poincare_disk import flatten_tangents, geodesic, planar_directions

LONGEST = 640
"""Longest side of an embedded image in pixels."""


def hierarchy_page(
    drawings: Sequence[Mapping[str, Any]], titles: Sequence[str], heading: str = 'Hierarchies'
) -> str:
    """Makes an HTML page that shows the hierarchy of one of some images at a time.

    A node under the mouse, or the one that the arrow keys have reached, is shown as its region on
    the image and its place on the disk, with its parent and children. Image and level are chosen
    from lists. The page holds all it needs and asks nothing of a network.

    Args:
        drawings: Arguments of :func:`draw_hierarchy` for each image, as
            :func:`hyper_mm.visualization.read_hierarchies` returns them; what is not a hierarchy
            (`segmentation`) is left out.
        titles: Title of each image; any text.
        heading: Heading of the page; any text.

    Returns:
        The page.

    Raises:
        ValueError: If there is no drawing, or not one title each, or shapes do not fit.
    """
    if not drawings or len(drawings) != len(titles):
        raise ValueError(
            f'titles must be one for each of at least one drawing, got {len(titles)} for '
            f'{len(drawings)}'
        )
    data = [_entry(drawing, title) for drawing, title in zip(drawings, titles)]
    text = json.dumps(data, ensure_ascii=True, allow_nan=False)
    # inside of a script element, so that no text can end it
    text = text.replace('&', '\\u0026').replace('<', '\\u003c').replace('>', '\\u003e')
    page = files(__package__).joinpath('html_page.html').read_text(encoding='utf-8')
    return page.replace('@HEADING@', html.escape(heading)).replace('@DATA@', text)


def _entry(drawing: Mapping[str, Any], title: str) -> dict[str, Any]:
    """What the page needs of an image, as JSON."""
    image = np.asarray(drawing['image'])
    height, width = drawing['feature_size']
    assigned = drawing.get('assigned', False)
    attention = check_attention(drawing['attention'], assigned)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f'image must be uint8 of shape (H, W, 3), got {image.shape}')
    if height * width != attention[0].shape[1]:
        raise ValueError(
            f'feature_size must have {attention[0].shape[1]} positions, got {(height, width)}'
        )
    summaries = attention_summary(attention, assigned)
    colors = tree_colors([len(a) for a in attention])
    levels = []
    for share, summary, color in zip(attention, summaries, colors):
        seen = share / share.max(1, keepdims=True).clip(1e-12)
        seen = share if assigned else seen
        levels.append(
            dict(
                regions=[_encode(np.round(255 * row).astype(np.uint8)) for row in seen],
                shares=[round(float(s), 4) for s in summary.shares],
                colors=[[round(255 * float(v)) for v in rgb] for rgb in color],
            )
        )
    scale = min(1.0, LONGEST / max(image.shape[:2]))
    size = tuple(max(1, round(scale * n)) for n in image.shape[1::-1])
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, buffer = cv2.imencode('.jpg', small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return dict(
        title=str(title),
        image=_encode(buffer),
        size=list(size),
        grid=[int(height), int(width)],
        levels=levels,
        **_space(drawing, [len(a) for a in attention]),
    )


def _space(drawing: Mapping[str, Any], nodes: list[int]) -> dict[str, Any]:
    """Places of the nodes and the paths to their parents, within a circle of radius 1."""
    tangents, c = drawing.get('tangents'), drawing.get('curvature')
    if tangents is None:
        return {}
    tangents = np.asarray(tangents, np.float64)
    if len(tangents) != sum(nodes) or not np.isfinite(tangents).all():
        raise ValueError(f'tangents must be finite, one row for each of {sum(nodes)} nodes')
    radius = np.linalg.norm(tangents, axis=-1, keepdims=True)
    if c is None:
        points = planar_directions(tangents) * radius / max(1.05 * radius.max(), 1e-9)
    else:
        points, radius = flatten_tangents(tangents, c), radius * c**0.5
    starts = np.cumsum([0, *nodes])
    paths = []
    for level, count in enumerate(nodes[:-1]):
        for node in range(count):
            parent = starts[level + 1] + node // (count // nodes[level + 1])
            ends = points[starts[level] + node], points[parent]
            path = np.stack(ends) if c is None else geodesic(*ends, steps=12)
            paths.append(np.round(path, 3).tolist())
    return dict(
        points=np.round(points, 4).tolist(),
        radii=np.round(radius[:, 0], 3).tolist(),
        paths=paths,
        flat=c is None,
    )


def _encode(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode('ascii')
